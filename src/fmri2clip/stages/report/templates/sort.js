// A click on the head of a column sorts the rows of its table by that column's numbers.
for (const head of document.querySelectorAll("th[data-sort]")) {
  head.addEventListener("click", () => {
    const body = head.closest("table").tBodies[0];
    const place = [...head.parentNode.children].indexOf(head);
    const down = head.getAttribute("aria-sort") !== "descending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const number = (row) => parseFloat(row.children[place].dataset.value ?? "-Infinity");
    const rows = [...body.rows].sort((a, b) => (down ? number(b) - number(a) : number(a) - number(b)));
    body.append(...rows);
  });
}
