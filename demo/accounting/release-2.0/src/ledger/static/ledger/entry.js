// The form works without this; with it, sums are shown while typing and lines can be added.
"use strict";
(() => {
  const form = document.getElementById("entry");
  const body = form.querySelector("tbody");
  const count = form.elements["lines-TOTAL_FORMS"];
  const difference = document.getElementById("difference");
  const cents = (text) => Math.round(Number.parseFloat(text || "0") * 100) || 0;
  const shown = (value) => (value / 100).toLocaleString("en-US", { minimumFractionDigits: 2 });

  const sum = (side) =>
    [...form.querySelectorAll(`[data-side=${side}]`)].reduce((total, input) => total + cents(input.value), 0);

  function update() {
    const debit = sum("debit");
    const credit = sum("credit");
    form.querySelector("[data-sum=debit]").textContent = shown(debit);
    form.querySelector("[data-sum=credit]").textContent = shown(credit);
    const off = debit - credit;
    difference.textContent = off ? `Difference ${shown(Math.abs(off))}` : debit ? "In balance" : "";
    difference.className = off ? "bad" : "good";
  }

  const add = document.getElementById("add-line");
  add.hidden = false;
  add.addEventListener("click", () => {
    const row = body.lastElementChild.cloneNode(true);
    const number = count.value;
    for (const field of row.querySelectorAll("input, select")) {
      field.name = field.name.replace(/-\d+-/, `-${number}-`);
      field.id = field.id.replace(/-\d+-/, `-${number}-`);
      field.value = "";
    }
    for (const list of row.querySelectorAll(".errorlist")) list.remove();
    body.append(row);
    count.value = Number(number) + 1;
    row.querySelector("select").focus();
  });
  form.addEventListener("input", update);
  update();
})();
