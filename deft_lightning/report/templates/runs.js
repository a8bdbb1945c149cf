"use strict";
(() => {
  const table = document.querySelector("#run-list table");
  if (!table) return;
  const body = table.tBodies[0], rows = [...body.rows];
  const words = document.getElementById("run-words"), status = document.getElementById("run-status");
  const count = document.getElementById("run-count");
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));

  const filter = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const fits = (!status.value || row.dataset.status === status.value) &&
        wanted.every((word) => texts.get(row).includes(word));
      row.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${rows.length} runs`;
  };

  const sort = (header) => {
    const column = header.cellIndex, numeric = header.classList.contains("n");
    const descending = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const key = (row) => {
      const cell = row.cells[column];
      return numeric ? (cell.dataset.v === "" ? NaN : Number(cell.dataset.v)) : cell.textContent.trim().toLowerCase();
    };
    const keyed = rows.map((row) => [key(row), row]);
    keyed.sort(([a], [b]) => {
      if (numeric && (Number.isNaN(a) || Number.isNaN(b))) return Number.isNaN(a) - Number.isNaN(b); // missing ones last
      const order = numeric ? a - b : a.localeCompare(b);
      return descending ? -order : order;
    });
    body.append(...keyed.map(([, row]) => row));
  };

  words.addEventListener("input", filter);
  status.addEventListener("change", filter);
  for (const header of table.tHead.rows[0].cells) header.addEventListener("click", () => sort(header));
  filter();
})();
