"use strict";
// Draws the charts of a page when they come into view, sorts its tables, and shows why: every text
// becomes a text node, never markup, because a venue may have written it.
(function () {
  function island(id) {
    var node = document.getElementById(id);
    return node ? JSON.parse(node.textContent) : {};
  }
  var charts = island("charts"), entries = island("entries"), wire = island("wire");

  function draw(div) {
    var figure = charts[div.dataset.chart];
    if (!figure || div.dataset.drawn) { return; }
    div.dataset.drawn = "1";
    Plotly.newPlot(div, figure.data, figure.layout, { displayModeBar: false, responsive: true });
  }
  var all = Array.prototype.slice.call(document.querySelectorAll(".chart"));
  all.slice(0, 6).forEach(draw); // what is at the top, at once
  if ("IntersectionObserver" in window) {
    var seen = new IntersectionObserver(function (found) {
      found.forEach(function (one) { if (one.isIntersecting) { draw(one.target); } });
    }, { rootMargin: "600px" });
    all.forEach(function (div) { seen.observe(div); });
  } else { all.forEach(draw); }
  // Paper is laid out after this, and a chart does not follow: it gets a width that fits A4 and
  // Letter, so that nothing has to be shrunk.
  function fit(size) {
    all.forEach(function (div) { draw(div); Plotly.relayout(div, size); });
  }
  window.addEventListener("beforeprint", function () { fit({ width: 650, autosize: false }); });
  window.addEventListener("afterprint", function () { fit({ width: null, autosize: true }); });

  function node(name, text, className) {
    var made = document.createElement(name);
    if (text !== undefined) { made.textContent = text; }
    if (className) { made.className = className; }
    return made;
  }
  function list(lines) {
    var made = node("ul");
    lines.forEach(function (line) { made.appendChild(node("li", line)); });
    return made;
  }
  function link(entry) {
    var made = node("li");
    made.appendChild(node("b", entry.id + " "));
    made.appendChild(node("span", [entry.kind, entry.ticker, entry.at].filter(Boolean).join(" · "), "dim"));
    made.appendChild(node("div", entry.words));
    if (entry.details.length) { made.appendChild(list(entry.details)); }
    return made;
  }
  function frames(seqs) {
    var known = seqs.filter(function (seq) { return wire[seq]; });
    var made = node("details"), names = seqs.map(function (seq) { return "#" + seq; }).join(", ");
    made.appendChild(node("summary", "wire: frames " + names));
    known.forEach(function (seq) {
      var frame = wire[seq];
      made.appendChild(node("div", frame.head));
      var cut = frame.text.length < frame.letters ? "… (" + frame.letters + " letters)" : "";
      made.appendChild(node("pre", frame.text + cut));
    });
    if (!known.length) { made.appendChild(node("p", "their text is not in this report", "dim")); }
    return made;
  }
  function chain(id) {
    var made = node("div", undefined, "chain"), way = node("ol"), seqs = {}, passed = {};
    for (var entry = entries[id]; entry && !passed[entry.id]; entry = entries[entry.parent]) {
      passed[entry.id] = true;
      way.appendChild(link(entry));
      entry.frames.forEach(function (seq) { seqs[seq] = true; });
    }
    made.appendChild(way.children.length ? way : node("p", id + " is not in this report", "dim"));
    var numbers = Object.keys(seqs).map(Number).sort(function (a, b) { return a - b; });
    if (numbers.length) { made.appendChild(frames(numbers)); }
    return made;
  }
  function why(button) {
    var row = button.closest("tr"), next = row.nextElementSibling, id = button.dataset.id;
    var open = next && next.classList.contains("shown") ? next : null;
    if (open) { open.remove(); }
    row.querySelectorAll("button.why").forEach(function (one) { one.setAttribute("aria-expanded", "false"); });
    if (open && open.dataset.id === id) { return; }
    var made = node("tr", undefined, "shown"), cell = node("td");
    made.dataset.id = id;
    cell.colSpan = row.cells.length;
    cell.appendChild(chain(id));
    made.appendChild(cell);
    row.after(made);
    button.setAttribute("aria-expanded", "true");
  }
  function value(row, column) {
    var cell = row.cells[column];
    return cell.dataset.v !== undefined ? cell.dataset.v : cell.textContent.trim();
  }
  function compare(a, b) {
    var x = Number(a), y = Number(b);
    if (a !== "" && b !== "" && !isNaN(x) && !isNaN(y)) { return x - y; }
    return a.localeCompare(b, "en", { numeric: true });
  }
  function sort(head) {
    var body = head.closest("table").tBodies[0], column = head.cellIndex;
    var up = head.getAttribute("aria-sort") === "descending";
    body.querySelectorAll("tr.shown").forEach(function (row) { row.remove(); });
    body.querySelectorAll("button.why").forEach(function (one) { one.setAttribute("aria-expanded", "false"); });
    Array.prototype.slice.call(body.rows).sort(function (one, other) {
      var a = value(one, column), b = value(other, column);
      if (a === "" || b === "") { return a === b ? 0 : a === "" ? 1 : -1; } // unknown is last
      return up ? compare(a, b) : compare(b, a);
    }).forEach(function (row) { body.appendChild(row); });
    head.parentNode.querySelectorAll("th").forEach(function (one) { one.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
  }
  document.addEventListener("click", function (event) {
    var button = event.target.closest("button");
    if (!button) { return; }
    if (button.classList.contains("why")) { why(button); }
    if (button.parentNode.tagName === "TH") { sort(button.parentNode); }
  });
}());
