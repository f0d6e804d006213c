// Cells that ag-grid draws. Text goes in as text: a title is never markup.
var cells = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});
var functions = (window.dashAgGridFunctions = window.dashAgGridFunctions || {});
var el = function () { return React.createElement.apply(React, arguments); };

cells.Score = function (p) {
  if (p.value === null || p.value === undefined) return el("span", { className: "faint" }, "–");
  var v = p.value, kind = v > 0.05 ? "good" : v < -0.05 ? "bad" : "even";
  return el("span", { className: "score " + kind }, (v > 0 ? "+" : v < 0 ? "−" : "") + Math.abs(v).toFixed(2));
};
cells.Spark = function (p) {
  return el("svg", { width: 96, height: 20, role: "img", "aria-label": "course of the score" },
    el("path", { d: "M0 10H96", className: "spark-zero" }), el("path", { d: p.value || "", className: "spark" }));
};
cells.SeriesLink = function (p) {
  return el("a", { href: "/series/" + encodeURIComponent(p.data.series) + window.location.search }, p.value);
};
cells.Original = function (p) {
  var url = p.data.url || "";
  if (!/^https?:\/\//.test(url)) return el("span", { title: p.value }, p.value);
  return el("a", { href: url, target: "_blank", rel: "noopener noreferrer", title: p.value }, p.value);
};

// The grid in the page's own colours and type, light and dark.
functions.moodwireTheme = function (agGrid) {
  return agGrid.themeQuartz.withParams({
    fontFamily: "inherit", fontSize: 13, headerFontSize: 12, headerFontWeight: 400,
    backgroundColor: "transparent", foregroundColor: "var(--ink)", headerBackgroundColor: "transparent",
    headerTextColor: "var(--faint)", borderColor: "var(--rule)", rowHoverColor: "var(--panel)",
    wrapperBorder: false, wrapperBorderRadius: 0, cellHorizontalPadding: 6, accentColor: "var(--accent)",
  });
};
