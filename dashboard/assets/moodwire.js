// Cells that ag-grid draws. Text goes in as text: a title is never markup.
var cells = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});
var functions = (window.dashAgGridFunctions = window.dashAgGridFunctions || {});
var el = function () { return React.createElement.apply(React, arguments); };

function said(v) {
  var text = Math.abs(v).toFixed(2);
  return (text === "0.00" ? "" : v > 0 ? "+" : "−") + text;
}
function signed(v) {
  if (v === null || v === undefined) return el("span", { className: "faint" }, "–");
  var kind = v > 0.05 ? "good" : v < -0.05 ? "bad" : "even";
  return el("span", { className: "score " + kind }, said(v));
}
function inside(href, text) {
  return el("a", { href: href, onClick: function (e) { go(e, href); } }, el("bdi", null, text));
}
// The address of a page about something, with the time range and zone that are looked at.
function of(page, name) {
  var words = new URLSearchParams();
  new URLSearchParams(window.location.search).forEach(function (value, key) {
    if (/^(span|from|to|zone)$/.test(key)) words.append(key, value);
  });
  return "/" + page + "/" + encodeURIComponent(name) + (words.size ? "?" + words : "");
}
// Changes what stands in the address after `?`, where that makes a difference.
function put(change) {
  var words = new URLSearchParams(window.location.search), was = words.toString();
  change(words);
  if (words.toString() !== was) move(window.location.pathname + (words.toString() ? "?" + words : ""));
  return window.dash_clientside.no_update;
}
function move(href) {
  window.history.pushState({}, "", href);
  window.dispatchEvent(new CustomEvent("_dashprivate_pushstate"));
}
// To another page without loading it anew, as dcc.Link does.
function go(e, href) {
  if (e.metaKey || e.ctrlKey || e.shiftKey || e.button) return;
  e.preventDefault();
  move(href);
  window.scrollTo(0, 0);
}
cells.Score = function (p) { return signed(p.value); };
// A course of scores in hundredths; a gap is bridged: single points would not show.
cells.Spark = function (p) {
  var all = p.value || [], path = "", known = all.filter(function (v) { return v !== null; });
  all.forEach(function (v, at) {
    if (v !== null) path += (path ? "L" : "M") + (96 * at / (all.length - 1 || 1)).toFixed(1) + " " + (10 - v * 0.08).toFixed(1);
  });
  return el("svg", { className: "course", width: 96, height: 20, role: "img",
    "aria-label": known.length ? "from " + said(known[0] / 100) + " to " + said(known[known.length - 1] / 100) : "nothing" },
  el("path", { d: "M0 10H96", className: "spark-zero" }), el("path", { d: path, className: "spark" }));
};
cells.Link = function (p) { return inside(p.data.href, p.value); };
cells.Series = function (p) { return inside(of("series", p.data.key), p.value); };
cells.Clock = function (p) { return p.data.clock; };
cells.Lasted = function (p) { return p.data.say; };
cells.Text = function (p) { return el("bdi", { title: (p.value || "").slice(0, 500) }, p.value); };
cells.Health = function (p) { return el("span", { className: p.data.bad ? "bad" : "" }, p.value); };
cells.When = function (p) {
  return el("span", { className: "when" }, el("span", null, p.data.clock), el("small", null, p.data.day));
};
cells.State = function (p) {
  return el("span", { className: "state " + p.value }, (p.value === "resolved" ? "✓ " : "▲ ") + p.value);
};
cells.Story = function (p) {
  var d = p.data, title = el("bdi", null, d.title), meta = [];
  var add = function (part) { if (meta.length) meta.push(" · "); meta.push(part); };
  add(inside(of("series", "source:" + d.source), d.source));
  if (d.topic) add(inside(of("series", "topic:" + d.topic), d.topic.replace(/-/g, " ")));
  (d.about || []).forEach(function (a) {
    add(el("span", null, inside(of("series", "entity:" + a.symbol), a.symbol), " ", signed(a.score)));
  });
  if (d.copies > 1) add(d.copies + " copies");
  add(inside(of("story", d.id), "why?"));
  return el("div", { className: "story", title: d.title.slice(0, 500) },
    /^https?:\/\//.test(d.url || "")
      ? el("a", { href: d.url, target: "_blank", rel: "noopener noreferrer", className: "title" }, title)
      : el("span", { className: "title" }, title),
    el.apply(null, ["div", { className: "meta" }].concat(meta)));
};

// The grid in the page's own colours and type, light and dark.
var gridTheme; // one for all grids, so that its styles are made once
functions.moodwireTheme = function (agGrid) {
  return gridTheme = gridTheme || agGrid.themeQuartz.withParams({
    fontFamily: "inherit", fontSize: 13, headerFontSize: 12, headerFontWeight: 400,
    backgroundColor: "transparent", foregroundColor: "var(--ink)", headerBackgroundColor: "transparent",
    headerTextColor: "var(--faint)", borderColor: "var(--rule)", rowHoverColor: "var(--panel)",
    inputBackgroundColor: "var(--panel)", inputTextColor: "var(--ink)", inputBorder: "1px solid var(--rule)",
    menuBackgroundColor: "var(--panel)", menuTextColor: "var(--ink)", tooltipBackgroundColor: "var(--panel)",
    tooltipTextColor: "var(--ink)", wrapperBorder: false, wrapperBorderRadius: 0, cellHorizontalPadding: 6,
    accentColor: "var(--accent)",
  });
};
// The end of a list that may go on was scrolled to: tells how long it is, and of what.
functions.moodwireEnd = function (event, tell, page, longest) {
  var count = event.api.getDisplayedRowCount(), seen = event.api.getLastDisplayedRowIndex();
  if (count % page === 0 && count < longest && seen >= count - 5) tell({ count: count, search: window.location.search });
};

var last = Date.now(), STALE_MS = 75000;
window.dash_clientside = Object.assign({}, window.dash_clientside, {
  moodwire: {
    // The span and zone that were chosen, into the address; nothing if it says so already.
    choose: function (span, zone) {
      return put(function (words) {
        if (span && (words.has("from") || (words.get("span") || "24h") !== span)) {
          words.delete("from"); words.delete("to"); words.delete("pick");
          if (span === "24h") words.delete("span"); else words.set("span", span);
        }
        if (zone === "UTC") words.delete("zone"); else if (zone) words.set("zone", zone);
      });
    },
    compare: function (also) {
      return put(function (words) {
        words.delete("also");
        (also || []).forEach(function (name) { words.append("also", name); });
      });
    },
    // To the stories of the series shown that also count for another.
    cross: function (other) {
      if (!other) return window.dash_clientside.no_update;
      var series = decodeURIComponent(window.location.pathname.split("/")[2]);
      move(of("series", series === "all" ? other : series + "+" + other));
      return window.dash_clientside.no_update;
    },
    // The ends of what was dragged over in a chart; a chart also tells when it is drawn, with nothing dragged over.
    pick: function (selected) {
      return (selected && selected.range && selected.range.x) || window.dash_clientside.no_update;
    },
    // The fields of the search, into the address, and back where the reader is not just typing.
    look: function (words, series, source, label) {
      return put(function (all) {
        var set = function (name, value) { if (value) all.set(name, value); else all.delete(name); };
        set("words", (words || "").trim()); set("series", series); set("source", source);
        set("label", label === "any" ? "" : label);
      });
    },
    asked: function (search) {
      var all = new URLSearchParams(search || ""), field = document.getElementById("find-words");
      var typing = field && document.activeElement === field;
      return [typing ? window.dash_clientside.no_update : all.get("words") || "", all.get("series"),
        all.get("source"), all.get("label") || "any"];
    },
    // A beat has come: the page is not stale.
    beaten: function (beat) {
      last = Date.now();
      var stale = document.getElementById("stale");
      if (stale) stale.hidden = true;
      return beat;
    },
  },
});
// On the page Label each button has a key.
document.addEventListener("keydown", function (e) {
  var page = document.getElementById("label-page"), at = e.target;
  if (!page || e.ctrlKey || e.metaKey || e.altKey || /INPUT|TEXTAREA|SELECT/.test(at.tagName)) return;
  if (e.key === "Enter" && at.closest("a, button, [role=gridcell]")) return;
  var button = page.querySelector('button[data-key="' + CSS.escape(e.key) + '"]');
  if (button) { e.preventDefault(); button.click(); }
});
setInterval(function () {
  var stale = document.getElementById("stale");
  if (stale && Date.now() - last > STALE_MS) stale.hidden = false;
}, 5000);
