// What makes a saved picture a page: controls above the figure, a layout that fits the window, and dark colours.
// `page` is the figure's element, `given` what innsight_py/plots/plotly_page.py hands over.
(function (page, given) {
  "use strict";
  const wrap = page.parentElement;
  wrap.classList.add("innsight-plot");
  Object.assign(wrap.style, { width: "100%", height: "auto" });
  const isPlain = (x) => x !== null && typeof x === "object" && Object.getPrototypeOf(x) === Object.prototype;
  const copied = (x) =>
    Array.isArray(x) ? x.map(copied)
      : isPlain(x) ? Object.fromEntries(Object.entries(x).map(([key, value]) => [key, copied(value)])) : x;
  const traces = page.data.map((trace) => ({ ...trace }));
  const layout = copied(page.layout);
  const chosen = given.controls.map((control) => control.active);

  // Sets "a.b.c" of an object; what lies between is copied first, since traces share it.
  function put(object, path, value) {
    const keys = path.split(".");
    const last = keys.pop();
    for (const key of keys) {
      object[key] = isPlain(object[key]) ? { ...object[key] } : {};
      object = object[key];
    }
    object[last] = value;
  }

  // Does what a button of plotly's does: restyle [traces, which], relayout [layout] or update [traces, layout, which].
  function apply(option, data, look) {
    const args = option.args;
    if (option.method !== "relayout") {
      const which = args[args.length - 1];
      for (const [key, values] of Object.entries(args[0]))
        which.forEach((n, place) =>
          put(data[n], key, Array.isArray(values) ? values[place % values.length] : values));
    }
    if (option.method !== "restyle")
      for (const [key, value] of Object.entries(args[option.method === "update" ? 1 : 0])) put(look, key, value);
  }

  // -- dark pages -----------------------------------------------------------------------------------------------
  const media = window.matchMedia("(prefers-color-scheme: dark)");
  function isDark() {
    const root = document.documentElement, body = document.body;
    for (const said of [body.dataset.theme, root.dataset.theme]) {
      if (said === "dark") return true;
      if (said === "light") return false;
    }
    if (body.dataset.jpThemeLight !== undefined) return body.dataset.jpThemeLight === "false";
    return media.matches;
  }
  // Scales of colours stay: the same value has the same colour everywhere.
  function darkened(x) {
    if (typeof x === "string") return given.dark[x] || x;
    if (Array.isArray(x)) return x.map(darkened);
    if (!isPlain(x)) return x;
    return Object.fromEntries(Object.entries(x).map(([key, value]) =>
      [key, key === "colorscale" ? value : darkened(value)]));
  }

  // -- drawing --------------------------------------------------------------------------------------------------
  let drawn = "";
  function draw() {
    const room = Math.max(wrap.clientWidth, 1), dark = isDark();
    const fitting = given.arrangements.filter((one) => one.room <= room);
    const one = fitting.length ? fitting[fitting.length - 1] : given.arrangements[0];
    const isLast = one === given.arrangements[given.arrangements.length - 1];
    let width = one.layout.width || layout.width;
    if (given.stretches && !isLast) width = Math.max(width, room);
    const state = JSON.stringify([one.room, width, dark, chosen]);
    if (state === drawn) return;
    drawn = state;
    wrap.classList.toggle("innsight-dark", dark);
    const data = traces.map((trace) => ({ ...trace }));
    let look = copied(layout);
    for (const [path, value] of Object.entries(one.layout)) put(look, path, copied(value));
    look.width = width;
    for (const [n, changes] of Object.entries(one.traces)) Object.assign(data[n], changes);
    given.controls.forEach((control, c) => apply(control.options[chosen[c]], data, look));
    if (dark) {
      look = darkened(look);
      for (const trace of data)
        for (const key of ["line", "fillcolor", "marker", "hoverlabel"])
          if (trace[key] !== undefined) trace[key] = darkened(trace[key]);
    }
    if (look.uirevision === undefined) look.uirevision = "innsight";
    Plotly.react(page, data, look);
    page.style.width = look.width + "px";
    page.style.height = look.height + "px";
  }

  // -- controls -------------------------------------------------------------------------------------------------
  const bar = document.createElement("div");
  bar.className = "innsight-controls";
  function element(kind, keys, parent) {
    const made = Object.assign(document.createElement(kind), keys);
    parent.appendChild(made);
    return made;
  }
  given.controls.forEach((control, c) => {
    const names = control.options.map((option) => option.label);
    const label = element("label", {}, bar);
    element("span", { textContent: control.label }, label);
    const choose = (n) => { chosen[c] = n; draw(); };
    if (control.kind === "slider") {
      const range = element("input", { type: "range", min: 0, max: names.length - 1, step: 1, name: control.name }, label);
      range.value = chosen[c];
      const shown = element("output", { textContent: names[chosen[c]] }, label);
      range.addEventListener("input", () => { shown.textContent = names[range.value]; choose(+range.value); });
    } else if (names.length <= given.most) {
      const select = element("select", { name: control.name }, label);
      names.forEach((name, n) => element("option", { textContent: name, value: n }, select));
      select.value = chosen[c];
      select.addEventListener("change", () => choose(+select.value));
    } else {
      // Very many: a field to search in, by the name or by the number in it.
      const list = element("datalist", { id: page.id + "-" + c }, label);
      names.forEach((name) => element("option", { value: name }, list));
      const field = element("input", { type: "search", name: control.name, autocomplete: "off", value: names[chosen[c]],
        placeholder: "one of " + (names.length - 1) + ", such as " + names[1] }, label);
      field.setAttribute("list", list.id);
      const step = (by) => { const n = Math.min(Math.max(chosen[c] + by, 0), names.length - 1);
        field.value = names[n]; field.setCustomValidity(""); choose(n); };
      for (const [text, by, title] of [["\u2039", -1, "previous"], ["\u203a", 1, "next"]])
        element("button", { type: "button", textContent: text, title: title }, label)
          .addEventListener("click", (event) => { event.preventDefault(); step(by); });
      field.addEventListener("focus", () => field.select());
      field.addEventListener("change", () => {
        const typed = field.value.trim().toLowerCase();
        const number = (name) => (name.match(/(\d+)\D*$/) || [])[1];
        let n = typed === "" ? 0 : names.findIndex((name) => name.toLowerCase() === typed);
        if (n < 0 && /^\d+$/.test(typed)) n = names.findIndex((name) => number(name) === typed);
        field.setCustomValidity(n < 0 ? "There is no '" + field.value + "' here." : "");
        field.reportValidity();
        if (n >= 0) { field.value = names[n]; choose(n); }
      });
    }
  });
  if (given.controls.length) wrap.insertBefore(bar, page);
  draw();
  new ResizeObserver(draw).observe(wrap);
  media.addEventListener("change", draw);
  const watched = { attributes: true, attributeFilter: ["data-theme", "data-jp-theme-light"] };
  for (const place of [document.documentElement, document.body]) new MutationObserver(draw).observe(place, watched);
})(document.getElementById("{plot_id}"), GIVEN);
