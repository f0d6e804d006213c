"""What an article can be: the sentiments and topics that records name, in the order of the model's outputs."""

SENTIMENTS = ("negative", "neutral", "positive")

# Slug (as in the series `topic:earnings`) and what people read, in the order of the labels 0 to 19 of the data set
# Twitter Financial News Topic.
TOPIC_NAMES = {
    "analyst-update": "Analyst Update",
    "central-banks": "Fed | Central Banks",
    "product-news": "Company | Product News",
    "debt": "Treasuries | Corporate Debt",
    "dividend": "Dividend",
    "earnings": "Earnings",
    "energy": "Energy | Oil",
    "financials": "Financials",
    "currencies": "Currencies",
    "general": "General News | Opinion",
    "metals": "Gold | Metals | Materials",
    "ipo": "IPO",
    "legal": "Legal | Regulation",
    "mergers": "M&A | Investments",
    "macro": "Macro",
    "markets": "Markets",
    "politics": "Politics",
    "personnel": "Personnel Change",
    "stock-commentary": "Stock Commentary",
    "stock-movement": "Stock Movement",
}
TOPICS = tuple(TOPIC_NAMES)
