"""Whether the stage that serves /health on a port of this host is well: `python -m moodwire.healthy PORT`."""

import sys
from urllib.request import urlopen

if __name__ == "__main__":
    with urlopen(f"http://127.0.0.1:{int(sys.argv[1])}/health", timeout=4) as answer:
        print(answer.read().decode())
