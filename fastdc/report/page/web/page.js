"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const bar = document.getElementById("filters");
  if (!bar) return;
  const selects = all("select[data-filter]", bar);
  const everything = document.getElementById("everything");
  const setups = all(".setup");
  const hidden = new Set(); // methods

  const apply = () => {
    const filter = Object.fromEntries(selects.map((select) => [select.name, select.value]));
    const fits = (element, name) => !filter[name] || !(name in element.dataset) || element.dataset[name].split(" ").includes(filter[name]);
    let rows = 0;
    for (const setup of setups) {
      for (const part of all("[data-ipc]", setup)) part.classList.toggle("off", !fits(part, "ipc"));
      const fitting = ["dataset", "protocol", "arch"].every((name) => fits(setup, name));
      const shown = fitting && all(".block:not(.off)", setup).length > 0;
      setup.classList.toggle("off", !shown);
      setup.classList.toggle("one", Boolean(filter.ipc));
      if (shown) rows += all(".block:not(.off) .board tbody tr:not(.out)", setup).length;
    }
    document.getElementById("count").textContent = rows === 1 ? "1 row" : `${rows} rows`;
    document.getElementById("nothing").hidden = rows > 0;
  };

  const choose = () => {
    for (const element of all("[data-m]")) element.classList.toggle("out", hidden.has(element.dataset.m));
    for (const button of all("[data-toggle]")) button.setAttribute("aria-pressed", !hidden.has(button.dataset.toggle));
    everything.hidden = hidden.size === 0;
    apply();
  };

  for (const select of selects) select.addEventListener("change", apply);
  everything.addEventListener("click", () => { hidden.clear(); choose(); });
  for (const button of all("[data-toggle]")) {
    button.addEventListener("click", () => {
      const method = button.dataset.toggle;
      if (!hidden.delete(method)) hidden.add(method);
      choose();
    });
  }

  // details of a point or line below its chart, for touch as well as for a mouse
  const showNote = (event) => {
    const noted = event.target.closest("[data-note]");
    const figure = event.target.closest("figure");
    if (!figure || !noted) return;
    figure.querySelector(".note-text").textContent = noted.dataset.note;
    const series = noted.closest(".series");
    for (const other of all(".series", figure)) other.classList.toggle("hot", other === series);
    figure.classList.toggle("warm", Boolean(series));
  };
  for (const chart of all("svg.chart")) {
    chart.addEventListener("pointerover", showNote);
    chart.addEventListener("click", showNote);
    chart.addEventListener("pointerleave", () => chart.closest("figure").classList.remove("warm"));
  }

  for (const select of all("select[name=class]")) {
    const show = () => {
      for (const strip of all(".strip", select.closest(".block")))
        strip.classList.toggle("off", select.value !== "" && strip.dataset.class !== select.value);
    };
    select.addEventListener("change", show);
    select.closest(".choice").hidden = false;
    show();
  }
  bar.hidden = false;
  apply();
})();
