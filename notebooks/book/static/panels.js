// Sliders that move through recorded pictures, and the inspector's panes with the inspector's own script.
// No kernel, nothing fetched from elsewhere. Without this script a panel is its first picture.

const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};

function panel(place, number) {
  const folder = place.dataset.folder;
  const controls = JSON.parse(place.dataset.controls);
  const picture = place.querySelector("img");
  const message = make("p", { class: "course-message", role: "status" });
  const inputs = [];
  const show = (k, value) => {
    // One control is moved at a time: the pictures were drawn with the others at their start.
    inputs.forEach((set, j) => j !== k && set(controls[j].start));
    inputs[k](value);
    const file = controls[k].files[value];
    if (file.startsWith("says: ")) message.textContent = file.slice(6);
    else {
      message.textContent = "";
      picture.src = folder + file;
    }
    picture.alt = `${controls[k].label}: ${controls[k].values[value]}`;
  };
  const rows = controls.map((control, k) => {
    const id = `course-panel-${number}-${k}`;
    const label = make("label", { for: id }, control.label);
    if (control.kind === "choice") {
      const list = make("select", { id }, ...control.values.map((v, j) => make("option", { value: j }, v)));
      inputs.push((value) => (list.value = String(value)));
      list.addEventListener("change", () => show(k, Number(list.value)));
      return make("div", { class: "course-control" }, label, list);
    }
    const range = make("input", { id, type: "range", min: 0, max: control.values.length - 1, step: 1 });
    const output = make("output", { for: id });
    inputs.push((value) => {
      range.value = String(value);
      range.setAttribute("aria-valuetext", control.values[value]);
      output.textContent = control.values[value];
    });
    range.addEventListener("input", () => show(k, Number(range.value)));
    return make("div", { class: "course-control" }, label, range, output);
  });
  controls.forEach((control, k) => inputs[k](control.start));
  const words =
    controls.length > 1 ? "Recorded pictures: one control moves at a time, the others go back to their start. " : "Recorded pictures. ";
  place.prepend(...rows, message);
  place.append(make("p", { class: "course-still" }, `${words}Run the notebook for every value.`));
  const load = () => controls.forEach((c) => c.files.forEach((f) => f.startsWith("says: ") || (new Image().src = folder + f)));
  place.addEventListener("pointerenter", load, { once: true });
  place.addEventListener("focusin", load, { once: true });
}

function panes(place) {
  const described = JSON.parse(place.dataset.panes);
  const bytes = described.map((pane) => Uint8Array.from(atob(pane.png), (letter) => letter.charCodeAt(0)));
  const all = described.map((pane, k) => ({ title: pane.title, note: pane.note, png: bytes[k] }));
  const state = { mode: "panes", panes: all, wipe: 0.5, transform: [1, 0, 0] };
  const listeners = {};
  const model = {
    get: (name) => state[name],
    set: (name, value) => (state[name] = value),
    on: (name, action) => (listeners[name] = action),
    save_changes: () => {},
    send: () => {},
  };
  const wipe = (left, right) => {
    state.panes = mode.value === "panes" ? all : [all[Number(left)], all[Number(right)]];
    state.mode = mode.value;
    listeners["change:mode"]();
  };
  const option = (text, value) => make("option", { value }, text);
  const mode = make("select", { "aria-label": "view" }, option("side by side", "panes"), option("wipe", "wipe"));
  const names = () => described.map((pane, k) => option(pane.title, k));
  const left = make("select", { "aria-label": "left of the line" }, ...names());
  const right = make("select", { "aria-label": "right of the line" }, ...names());
  right.value = String(described.length - 1);
  for (const list of [mode, left, right]) list.addEventListener("change", () => {
    left.hidden = right.hidden = mode.value === "panes";
    wipe(left.value, right.value);
  });
  left.hidden = right.hidden = true;
  place.replaceChildren(make("div", { class: "course-control" }, mode, left, right), make("div", { class: "inspector" }));
  coursePanes.render({ model, el: place.lastChild });
}

document.querySelectorAll(".course-panel").forEach(panel);
document.querySelectorAll(".course-panes").forEach(panes);
