"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const bar = document.getElementById("filters");
  if (!bar) return;
  const selects = all("select[data-filter]", bar);
  const count = document.getElementById("count");
  const wanted = () => Object.fromEntries(selects.map((select) => [select.dataset.filter, select.value]));
  const fits = (element, filter, names) =>
    names.every((name) => !filter[name] || !(name in element.dataset) || element.dataset[name] === filter[name]);
  const apply = () => {
    const filter = wanted();
    let rows = 0;
    for (const setup of all(".setup")) {
      for (const part of all("[data-ipc]", setup)) part.classList.toggle("off", !fits(part, filter, ["ipc"]));
      const empty = !all(".block:not(.off)", setup).length;
      setup.classList.toggle("off", empty || !fits(setup, filter, ["dataset", "protocol", "arch"]));
      if (!setup.classList.contains("off")) rows += all(".block:not(.off) tbody tr", setup).length;
    }
    count.textContent = rows === 1 ? "1 row" : `${rows} rows`;
  };
  for (const select of selects) select.addEventListener("change", apply);
  bar.hidden = false;
  apply();
})();
