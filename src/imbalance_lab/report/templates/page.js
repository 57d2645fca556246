"use strict";
(function () {
  function value(row, i) {
    var cell = row.cells[i], raw = cell && cell.getAttribute("data-sort");
    if (raw === null || raw === undefined || raw === "") return null;
    var number = Number(raw);
    return Number.isNaN(number) ? raw : number;
  }
  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  }
  document.querySelectorAll("table").forEach(function (table) {
    var body = table.tBodies[0], heads = table.tHead ? Array.from(table.tHead.rows[0].cells) : [];
    if (!body || body.rows.length < 2) return;
    heads.forEach(function (head, i) {
      var button = document.createElement("button");
      button.type = "button";
      while (head.firstChild) button.appendChild(head.firstChild);
      head.appendChild(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", function () {
        var first = head.classList.contains("num") ? "descending" : "ascending";
        var other = first === "ascending" ? "descending" : "ascending";
        var next = head.getAttribute("aria-sort") === first ? other : first;
        heads.forEach(function (h) { h.setAttribute("aria-sort", "none"); });
        head.setAttribute("aria-sort", next);
        var sign = next === "ascending" ? 1 : -1;
        Array.from(body.rows)
          .map(function (row, at) { return { row: row, key: value(row, i), at: at }; })
          .sort(function (x, y) {
            if (x.key === null || y.key === null) return (x.key === null) - (y.key === null) || x.at - y.at;
            return sign * compare(x.key, y.key) || x.at - y.at;
          })
          .forEach(function (item) { body.appendChild(item.row); });
      });
    });
  });
  document.querySelectorAll("pre.command").forEach(function (pre) {
    var button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy the command";
    button.addEventListener("click", function () {
      // Selected first: a frame without the clipboard's permission may still copy a selection.
      window.getSelection().selectAllChildren(pre);
      button.textContent = document.execCommand("copy") ? "Copied" : "Selected: copy it";
    });
    pre.after(button);
  });
  function open(id) {
    for (var at = id && document.getElementById(id); at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  }
  document.addEventListener("click", function (event) {
    var link = event.target.closest("a[href^='#']");
    if (link) open(link.hash.slice(1));
  });
  open(window.location.hash.slice(1));
  // MLflow shows the page in a frame that may neither follow an address of its own nor open another page.
  if (window.origin !== "null" || window.self === window.top) return;
  var server = /^blob:(https?:\/\/[^/]+)/.exec(window.location.href);
  function jump(target) {
    if (!target.hasAttribute("tabindex")) target.setAttribute("tabindex", "-1");
    target.scrollIntoView();
    target.focus({ preventScroll: true });
  }
  function reveal(link) {
    var old = link.parentNode.querySelector(".address");
    if (old) { old.remove(); return; }
    var box = document.createElement("span"), hint = document.createElement("span");
    var field = document.createElement("input");
    box.className = "address small";
    field.readOnly = true;
    field.setAttribute("aria-label", "Address of " + link.textContent);
    // The page may have been made for another address of the same server.
    var here = server && link.hash.indexOf("#/experiments/") === 0;
    field.value = here ? link.href.replace(/^https?:\/\/[^/]+/, server[1]) : link.href;
    box.append(field, hint);
    link.after(box);
    field.focus();
    field.select();
    field.scrollLeft = 0;
    hint.textContent = document.execCommand("copy")
      ? "Copied: this frame cannot open it; paste it into a new tab."
      : "This frame cannot open it; copy it into a new tab.";
  }
  document.addEventListener("click", function (event) {
    var link = event.target.closest("a[href]");
    if (!link) return;
    event.preventDefault();
    var inside = link.getAttribute("href").charAt(0) === "#" && document.getElementById(link.hash.slice(1));
    if (inside) jump(inside);
    else reveal(link);
  });
})();
