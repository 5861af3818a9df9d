"use strict";

// A click on a heading sorts by that column, a second one the other way; empty cells stay last.
const body = document.querySelector("#runs tbody");
const worth = (row, column) => {
  const cell = row.cells[column];
  return "value" in cell.dataset ? cell.dataset.value : cell.textContent.trim();
};
const compare = (a, b) => {
  const numbers = Number(a) - Number(b);
  return Number.isNaN(numbers) ? a.localeCompare(b, undefined, { numeric: true }) : numbers;
};
for (const button of document.querySelectorAll("#runs th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const upwards = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", upwards ? "ascending" : "descending");
    const rows = [...body.rows].sort((left, right) => {
      const [a, b] = [left, right].map((row) => worth(row, heading.cellIndex));
      if (a === "" || b === "") return (a === "") - (b === "");
      return upwards ? compare(a, b) : compare(b, a);
    });
    body.append(...rows);
  });
}

// Ticked runs show their pictures alone; with none ticked, all do.
body.addEventListener("change", () => {
  const ticked = [...body.querySelectorAll("input:checked")].map((box) => box.dataset.run);
  for (const figure of document.querySelectorAll(".panels figure")) {
    figure.hidden = ticked.length > 0 && !ticked.includes(figure.dataset.run);
  }
});
