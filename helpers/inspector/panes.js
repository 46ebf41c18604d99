// Pictures side by side with one zoom for all, a before/after wipe, a gallery, and the square cut from a photograph.
// Everything that follows the pointer happens here, in the browser; the kernel hears of it when it is over.

const element = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const CHUNK = 1 << 20; // bytes a message: servers close a connection at ten times that
const LARGEST = 100 * CHUNK;

async function draw(canvas, png) {
  // A canvas keeps its picture until the next one is decoded; an <img> would flash.
  const ticket = (canvas.ticket = (canvas.ticket || 0) + 1);
  const bitmap = await createImageBitmap(new Blob([png], { type: "image/png" }));
  if (ticket !== canvas.ticket) return; // a later picture was faster
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
}

function drag(node, start, move, end = () => {}) {
  node.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    const origin = start(event);
    if (origin === undefined) return;
    event.stopPropagation();
    node.setPointerCapture(event.pointerId);
    const moved = (e) => move(e, origin);
    node.addEventListener("pointermove", moved);
    const stop = () => {
      node.removeEventListener("pointermove", moved);
      end();
    };
    for (const name of ["pointerup", "pointercancel"]) node.addEventListener(name, stop, { once: true });
  });
}

function render({ model, el }) {
  const root = element("div", { class: "panes" });
  el.append(root);
  let [scale, x, y] = model.get("transform"); // x, y: shift in shares of a frame
  let redraw = () => {};
  let follow = () => {}; // the square goes where the kernel puts it

  const put = (values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  };

  // One zoom for all frames -----------------------------------------------------------------------------------------
  const zoomed = () => root.querySelectorAll("canvas.zooms");
  const apply = () => {
    x = clamp(x, 1 - scale, 0);
    y = clamp(y, 1 - scale, 0);
    for (const c of zoomed()) c.style.transform = `translate(${100 * x}%, ${100 * y}%) scale(${scale})`;
    const percent = root.querySelector(".percent");
    if (percent) percent.textContent = `${Math.round(100 * scale)} %`;
  };
  const keep = () => put({ transform: [scale, x, y] });
  const zoom = (factor, cx = 0.5, cy = 0.5) => {
    const next = clamp(scale * factor, 1, 12);
    x = cx - ((cx - x) * next) / scale;
    y = cy - ((cy - y) * next) / scale;
    scale = next;
    apply();
    keep();
  };
  const reset = () => {
    [scale, x, y] = [1, 0, 0];
    apply();
    keep();
  };
  const zooms = (frame) => {
    const at = (event) => {
      const box = frame.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    frame.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // the bare wheel scrolls the page, as everywhere
      event.preventDefault();
      zoom(event.deltaY < 0 ? 1.25 : 0.8, ...at(event));
    }, { passive: false });
    frame.addEventListener("dblclick", (event) => zoom(2, ...at(event)));
    frame.addEventListener("keydown", (event) => {
      const shift = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[event.key];
      if (event.key === "+" || event.key === "=") zoom(1.25);
      else if (event.key === "-") zoom(0.8);
      else if (event.key === "0") reset();
      else if (shift && scale > 1) {
        x += shift[0];
        y += shift[1];
        apply();
        keep();
      } else if (shift && shift[0]) model.send({ step: shift[0] > 0 ? -1 : 1 });
      else return;
      event.preventDefault();
      event.stopPropagation(); // JupyterLab listens to keys, too
    });
    drag(
      frame,
      (event) => (scale > 1 ? [event.clientX, event.clientY, x, y] : undefined),
      (event, [x0, y0, left, top]) => {
        const box = frame.getBoundingClientRect();
        x = left + (event.clientX - x0) / box.width;
        y = top + (event.clientY - y0) / box.height;
        apply();
      },
      keep,
    );
  };
  const toolbar = (text) => {
    const button = (label, name, action) => {
      const b = element("button", { type: "button", "aria-label": name, title: name }, label);
      b.addEventListener("click", action);
      return b;
    };
    return element(
      "div", { class: "toolbar" },
      button("−", "zoom out", () => zoom(0.8)), element("span", { class: "percent", "aria-live": "polite" }),
      button("+", "zoom in", () => zoom(1.25)), button("1:1", "whole picture", reset),
      element("span", { class: "hint" }, text),
    );
  };
  const frameFor = (pane) => {
    const canvas = element("canvas", { class: "zooms", role: "img", "aria-label": `${pane.title}. ${pane.note}` });
    draw(canvas, pane.png);
    return canvas;
  };

  // The modes -------------------------------------------------------------------------------------------------------
  const modes = {
    panes() {
      const panes = model.get("panes");
      const grid = root.querySelector(".grid");
      if (grid && grid.children.length === panes.length) {
        panes.forEach((pane, k) => {
          const [title, frame, note] = grid.children[k].children;
          title.textContent = pane.title;
          note.textContent = pane.note;
          frame.firstChild.setAttribute("aria-label", `${pane.title}. ${pane.note}`);
          draw(frame.firstChild, pane.png);
        });
        return apply();
      }
      if (!panes.length) return root.replaceChildren();
      const figures = panes.map((pane) => {
        const frame = element("div", { class: "frame", tabindex: 0 }, frameFor(pane));
        zooms(frame);
        return element(
          "figure", {}, element("figcaption", {}, pane.title), frame, element("div", { class: "note" }, pane.note),
        );
      });
      const hint = "Drag to move, Ctrl + wheel or double click to zoom; keys: + − 0, and ← → for the next picture.";
      root.replaceChildren(element("div", { class: "grid" }, ...figures), toolbar(hint));
      apply();
    },

    wipe() {
      const [left, right] = model.get("panes");
      if (!right) return root.replaceChildren();
      let share = model.get("wipe");
      const over = element("div", { class: "over" }, frameFor(right));
      const handle = element("div", {
        class: "handle", role: "slider", tabindex: 0, "aria-label": `wipe between ${left.title} and ${right.title}`,
        "aria-valuemin": 0, "aria-valuemax": 100,
      });
      const names = [left, right].map((pane, k) => element("span", { class: k ? "name right" : "name" }, pane.title));
      const frame = element("div", { class: "frame wipe", tabindex: 0 }, frameFor(left), over, ...names, handle);
      const place = (value) => {
        share = clamp(value, 0, 1);
        over.style.clipPath = `inset(0 0 0 ${100 * share}%)`;
        handle.style.left = `${100 * share}%`;
        handle.setAttribute("aria-valuenow", Math.round(100 * share));
      };
      const done = () => put({ wipe: share });
      const follow = (event) => {
        const box = frame.getBoundingClientRect();
        place((event.clientX - box.left) / box.width);
      };
      drag(handle, () => 0, follow, done);
      drag(frame, (event) => (scale > 1 ? undefined : follow(event) || 0), follow, done);
      handle.addEventListener("keydown", (event) => {
        const by = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 }[event.key];
        if (by === undefined) return;
        event.preventDefault();
        event.stopPropagation();
        place(share + by);
        done();
      });
      zooms(frame);
      const notes = element("div", { class: "note" }, [left, right].map((p) => `${p.title}: ${p.note}`).join("  |  "));
      root.replaceChildren(frame, notes, toolbar("Drag the line, or move it with ← →; Ctrl + wheel zooms."));
      place(share);
      apply();
    },

    gallery() {
      const { png, side, columns, labels, picks, current } = model.get("gallery");
      if (!png?.byteLength) return root.replaceChildren();
      const url = URL.createObjectURL(new Blob([png], { type: "image/png" }));
      const buttons = labels.map((label, k) => {
        const button = element("button", { type: "button", class: "thumb", "aria-label": label, title: label });
        const face = element("span", { class: "face" });
        face.style.backgroundImage = `url(${url})`;
        face.style.backgroundSize = `${100 * columns}% auto`;
        const rows = Math.ceil(labels.length / columns);
        const share = (n, count) => (count > 1 ? (100 * n) / (count - 1) : 0);
        face.style.backgroundPosition = `${share(k % columns, columns)}% ${share(Math.floor(k / columns), rows)}%`;
        button.append(face, label);
        button.tabIndex = picks[k] === current || (k === 0 && !picks.includes(current)) ? 0 : -1;
        if (picks[k] === current) button.setAttribute("aria-current", "true");
        button.addEventListener("click", () => put({ picked: picks[k] }));
        return button;
      });
      const grid = element("div", { class: "thumbs", role: "group", "aria-label": "gallery" }, ...buttons);
      grid.addEventListener("keydown", (event) => {
        const across = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
        const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[event.key];
        const next = buttons[buttons.indexOf(document.activeElement) + by];
        if (!by || !next) return;
        event.preventDefault();
        event.stopPropagation();
        next.focus();
      });
      const had = root.contains(document.activeElement);
      root.replaceChildren(grid);
      if (had) root.querySelector("[aria-current]")?.focus();
      setTimeout(() => root.isConnected || URL.revokeObjectURL(url), 1000);
      root.url && URL.revokeObjectURL(root.url);
      root.url = url;
    },

    crop() {
      const chooser = element("input", {
        type: "file", accept: "image/png,image/jpeg,image/webp", "aria-label": "photograph to upload",
      });
      const said = element("div", { class: "note", role: "status" });
      chooser.addEventListener("change", () => chooser.files.length && send(chooser.files[0], said));
      const { png, size, number } = model.get("photo");
      const label = element("label", { class: "upload" }, "Choose a photograph (PNG, JPEG, WebP)", chooser);
      if (!png?.byteLength) return root.replaceChildren(label, said);
      const canvas = element("canvas", { role: "img", "aria-label": "the uploaded photograph" });
      draw(canvas, png);
      const corner = element("div", { class: "corner", "aria-hidden": "true" });
      const name = "square to restore: arrow keys move it, + and − change its size";
      const box = element("div", { class: "square", tabindex: 0, role: "group", "aria-label": name }, corner);
      const stage = element("div", { class: "stage" }, canvas, box);
      const [width, height] = size;
      stage.style.maxWidth = `${Math.min(300, (300 * width) / height)}px`; // a tall photograph must not hide the controls
      let [left, top, side] = model.get("crop");
      let sentAt = 0;
      const place = (l, t, s, last) => {
        side = clamp(s, 16, Math.min(width, height));
        left = clamp(l, 0, width - side);
        top = clamp(t, 0, height - side);
        const share = { left: left / width, top: top / height, width: side / width, height: side / height };
        for (const [key, value] of Object.entries(share)) box.style[key] = `${100 * value}%`;
        if (last !== undefined && (last || Date.now() - sentAt > 150)) {
          sentAt = Date.now();
          put({ crop: [left, top, side].map(Math.round).concat(number) });
        }
      };
      follow = () => {
        const asked = model.get("crop").slice(0, 3);
        if (asked.some((value, k) => value !== Math.round([left, top, side][k]))) place(...asked);
      };
      const pixels = () => width / stage.getBoundingClientRect().width;
      const begin = (event) => [event.clientX, event.clientY, left, top, side];
      const end = () => place(left, top, side, true);
      const by = (event, [x0, y0]) => [(event.clientX - x0) * pixels(), (event.clientY - y0) * pixels()];
      drag(box, begin, (e, from) => {
        const [dx, dy] = by(e, from);
        place(from[2] + dx, from[3] + dy, side, false);
      }, end);
      drag(corner, begin, (e, from) => {
        const [dx, dy] = by(e, from);
        const room = Math.min(width - left, height - top);
        place(left, top, Math.min(from[4] + (dx + dy) / 2, room), false);
      }, end);
      box.addEventListener("keydown", (event) => {
        const d = side / 20;
        const move = { ArrowLeft: [-d, 0, 0], ArrowRight: [d, 0, 0], ArrowUp: [0, -d, 0], ArrowDown: [0, d, 0],
          "+": [-d / 2, -d / 2, d], "=": [-d / 2, -d / 2, d], "-": [d / 2, d / 2, -d] }[event.key];
        if (!move) return;
        event.preventDefault();
        event.stopPropagation();
        place(left + move[0], top + move[1], side + move[2], true);
      });
      root.replaceChildren(label, said, stage);
      place(left, top, side);
    },
  };

  async function send(file, said) {
    if (file.size > LARGEST) {
      said.textContent = `${file.name} is larger than 100 MB; make a smaller copy first.`;
      return;
    }
    said.textContent = `Reading ${file.name} …`;
    const bytes = await file.arrayBuffer();
    const parts = Math.max(1, Math.ceil(bytes.byteLength / CHUNK));
    for (let part = 0; part < parts; part++) {
      const chunk = bytes.slice(part * CHUNK, (part + 1) * CHUNK);
      model.send({ upload: file.name, part, parts }, undefined, [new DataView(chunk)]);
    }
  }

  redraw = () => modes[model.get("mode")]();
  const rebuild = () => {
    root.replaceChildren();
    root.className = `panes ${model.get("mode")}`;
    redraw();
  };
  const only = (mode, name) => model.on(`change:${name}`, () => mode.includes(model.get("mode")) && redraw());
  model.on("change:mode", rebuild);
  only(["panes", "wipe"], "panes");
  only(["gallery"], "gallery");
  only(["crop"], "photo");
  model.on("change:crop", () => follow());
  model.on("msg:custom", (message, buffers) => {
    if (message.said !== undefined) {
      const said = root.querySelector("[role=status]");
      if (said) said.textContent = message.said;
    }
    if (message.download === undefined) return;
    const url = URL.createObjectURL(new Blob([buffers[0]], { type: message.type }));
    element("a", { href: url, download: message.download }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  });
  rebuild();
  return () => root.url && URL.revokeObjectURL(root.url);
}

export default { render };
