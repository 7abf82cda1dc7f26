"use strict";
// One page, two uses: scenes of a batch, zones. Names come from files of strangers: they are set as text, never as markup.
(() => {
  const at = (id) => document.getElementById(id);
  const settings = JSON.parse(at("settings").textContent);
  const rows = JSON.parse(at("rows").textContent);
  const { columns, tones } = settings;
  const rankColumn = columns.findIndex((column) => column.kind === "rank");
  const ROW = 53; // height of a row with its border, px
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const state = { column: rankColumn, down: false, query: "", choices: new Map(), tone: "", chosen: null, shown: [] };

  const make = (name, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };

  // ---- words
  const digits = (value) => {
    if (value === 0) return "0";
    if (Math.abs(value) < 0.005) return "< 0.01";
    return value.toLocaleString("en", Math.abs(value) >= 100 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 3 });
  };
  const percent = (value) => {
    if (value > 0 && value < 0.01) return "< 1 %";
    return value > 0.99 && value < 1 ? "> 99 %" : `${Math.round(value * 100)} %`;
  };
  const words = {
    number: digits,
    rank: (value) => String(value),
    share: percent,
    time: (value) => value.replace("T", " ").slice(0, 16),
    probability: (value) => value.toFixed(2),
  };
  const say = (value, kind) => (value === null ? "–" : kind in words ? words[kind](value) : String(value));
  const numeric = (kind) => ["number", "rank", "share", "probability"].includes(kind);

  // ---- what every row is searched and drawn by
  for (const row of rows) {
    row.text = [...row.c, ...(row.m || []).flat()].filter((one) => typeof one === "string").join("\n").toLowerCase();
    row.box = null;
    for (const ring of row.g || []) {
      for (const [x, y] of ring) {
        const b = (row.box ||= [x, y, x, y]);
        if (x < b[0]) b[0] = x;
        if (y < b[1]) b[1] = y;
        if (x > b[2]) b[2] = x;
        if (y > b[3]) b[3] = y;
      }
    }
  }

  // ---- filters and order
  const order = (a, b) => {
    const { column, down } = state;
    const x = a.c[column], y = b.c[column];
    if (x === null || y === null) {
      if (x !== y) return x === null ? 1 : -1; // what is unknown comes last, whichever way
    } else if (x !== y) {
      const way = typeof x === "number" ? x - y : collator.compare(x, y);
      if (way) return down ? -way : way;
    }
    return tones.findIndex((t) => t.name === a.t) - tones.findIndex((t) => t.name === b.t);
  };
  const update = () => {
    const query = state.query.trim().toLowerCase();
    state.shown = rows.filter((row) =>
      (!query || row.text.includes(query)) && (!state.tone || row.t === state.tone) &&
      [...state.choices].every(([column, value]) => !value || row.c[column] === value));
    state.shown.sort(order);
    at("count").textContent = `${state.shown.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} ${settings.noun}s`;
    at("nothing").hidden = state.shown.length > 0;
    at("list").scrollTop = 0;
    for (const [index, cell] of [...at("head").children].entries()) {
      if (index === state.column) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
    table(true);
    draw();
  };

  // ---- table: only the rows in view are elements
  let first = -1, last = -1, lines = new Map(); // elements of the rows in view: kept, so that no picture loads twice
  const cell = (row, column, index) => {
    const value = row.c[index], kind = column.kind;
    const box = make("td", { className: numeric(kind) ? "number" : kind });
    if (kind === "picture") {
      if (row.i) {
        const picture = make("img", { src: row.i, alt: "", decoding: "async" });
        picture.addEventListener("error", () => picture.remove());
        box.append(picture);
      }
    } else if (kind === "finding") {
      box.classList.add(row.t);
      const line = make("span", { className: "word", textContent: say(value, kind) });
      box.append(make("div", { className: "lines" }, make("span", { className: `mark ${row.t}` }), line));
      box.title = say(value, kind);
    } else {
      box.textContent = say(value, kind);
      if (kind === "name") box.title = box.textContent;
    }
    return box;
  };
  const table = (anew = false) => {
    const list = at("list"), top = list.scrollTop, count = state.shown.length;
    const from = Math.max(0, Math.min(Math.floor(top / ROW) - 8, count)), to = Math.min(count, Math.ceil((top + list.clientHeight) / ROW) + 8);
    if (!anew && from === first && to === last) return;
    [first, last] = [from, to];
    const gap = (height) => {
      const filler = make("td", { colSpan: columns.length });
      filler.style.height = `${height}px`;
      return make("tr", { className: "gap", ariaHidden: "true" }, filler);
    };
    const kept = lines;
    lines = new Map(state.shown.slice(from, to).map((row, place) => {
      let line = kept.get(row);
      if (!line) {
        line = make("tr", { className: "row" }, ...columns.map((column, index) => cell(row, column, index)));
        line.addEventListener("click", () => choose(row, false));
        line.addEventListener("dblclick", () => row.box && fit([row]));
      }
      line.setAttribute("aria-rowindex", String(from + place + 2));
      line.setAttribute("aria-selected", String(row === state.chosen));
      return [row, line];
    }));
    at("body").replaceChildren(gap(from * ROW), ...lines.values(), gap((count - to) * ROW));
    at("table").setAttribute("aria-rowcount", String(count + 1));
  };
  const show = (row) => {
    const place = state.shown.indexOf(row), list = at("list");
    if (place < 0) return;
    const top = place * ROW, height = list.clientHeight - 40;
    if (top < list.scrollTop || top + ROW > list.scrollTop + height) list.scrollTop = Math.max(0, top - height / 2);
  };

  // ---- detail
  const choose = (row, scroll = true) => {
    state.chosen = row;
    const detail = at("detail");
    const name = row.c[columns.findIndex((column) => column.kind === "name")];
    const finding = row.c[columns.findIndex((column) => column.kind === "finding")];
    const parts = [make("h3", { textContent: say(name) })];
    parts.push(make("p", { className: `headline ${row.t}` }, make("span", { className: `mark ${row.t}` }), make("span", { className: "word", textContent: say(finding) })));
    if (row.i) {
      const picture = make("img", { src: row.i, alt: `Quicklook of ${name}` });
      picture.addEventListener("error", () => picture.replaceWith(make("p", { className: "quiet", textContent: "The quicklook is not where it was written." })));
      parts.push(picture);
    }
    if (row.l && row.l.length) parts.push(make("p", { className: "links" }, ...row.l.map(([label, href]) => make("a", { href, textContent: label }))));
    const facts = (row.m || []).flatMap(([label, text]) => [make("dt", { textContent: label }), make("dd", { textContent: text })]);
    parts.push(make("dl", {}, ...facts));
    detail.replaceChildren(...parts);
    detail.scrollTop = 0;
    if (scroll) show(row);
    else if (row.box) {
      const [x, y] = [(row.box[0] + row.box[2]) / 2, (row.box[1] + row.box[3]) / 2];
      if (px(x) < 0 || px(x) > canvas.clientWidth || py(y) < 0 || py(y) > canvas.clientHeight) [view.x, view.y] = [x, y];
    }
    table(true);
    draw();
  };

  // ---- map: degrees east and north, true to shape at its middle
  const canvas = at("map"), pen = canvas.getContext("2d");
  const view = { x: 0, y: 0, scale: 2, squeeze: 1 };
  const px = (lon) => canvas.clientWidth / 2 + (lon - view.x) * view.squeeze * view.scale;
  const py = (lat) => canvas.clientHeight / 2 - (lat - view.y) * view.scale;
  const fit = (only = state.shown) => {
    const boxes = (only.some((row) => row.box) ? only : rows).map((row) => row.box).filter(Boolean);
    const all = boxes.reduce((a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[2], b[2]), Math.max(a[3], b[3])], boxes[0] || [-180, -80, 180, 80]);
    [view.x, view.y] = [(all[0] + all[2]) / 2, (all[1] + all[3]) / 2];
    view.squeeze = Math.max(0.2, Math.cos((view.y * Math.PI) / 180));
    const wide = Math.max(all[2] - all[0], 0.02) * view.squeeze, high = Math.max(all[3] - all[1], 0.02);
    view.scale = 0.84 * Math.min(canvas.clientWidth / wide, canvas.clientHeight / high);
    draw();
  };
  const zoom = (factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) => {
    const scale = Math.min(4e6, Math.max(0.5, view.scale * factor));
    view.x += ((x - canvas.clientWidth / 2) / view.squeeze) * (1 / view.scale - 1 / scale);
    view.y -= (y - canvas.clientHeight / 2) * (1 / view.scale - 1 / scale);
    view.scale = scale;
    draw();
  };
  const SMALL = 5; // px below which a footprint is drawn as a mark
  const small = (box) => px(box[2]) - px(box[0]) < SMALL && py(box[1]) - py(box[3]) < SMALL;
  const trace = (row) => {
    pen.beginPath();
    if (small(row.box)) {
      pen.rect(px((row.box[0] + row.box[2]) / 2) - 3, py((row.box[1] + row.box[3]) / 2) - 3, 6, 6);
      return;
    }
    for (const ring of row.g) {
      ring.forEach(([x, y], index) => (index ? pen.lineTo(px(x), py(y)) : pen.moveTo(px(x), py(y))));
      pen.closePath();
    }
  };
  const STEPS = [45, 30, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001];
  const degrees = (value, names, step) => `${Math.abs(value).toFixed(Math.max(0, -Math.floor(Math.log10(step) + 1e-9)))}°${value ? names[value < 0 ? 1 : 0] : ""}`;
  const graticule = (colour) => {
    const width = canvas.clientWidth, height = canvas.clientHeight, labels = [];
    const step = STEPS.findLast((one) => one * view.scale * view.squeeze >= 64) ?? 45;
    pen.strokeStyle = colour("--line");
    pen.lineWidth = 1;
    pen.beginPath();
    const west = Math.max(-180, view.x - width / 2 / view.scale / view.squeeze), east = Math.min(180, view.x + width / 2 / view.scale / view.squeeze);
    const south = Math.max(-90, view.y - height / 2 / view.scale), north = Math.min(90, view.y + height / 2 / view.scale);
    for (let index = Math.ceil(west / step); index * step <= east; index += 1) {
      const x = Math.round(px(index * step)) + 0.5;
      pen.moveTo(x, Math.max(0, py(90)));
      pen.lineTo(x, Math.min(height, py(-90)));
      if (x < width - 60) labels.push([degrees(index * step, "EW", step), x + 4, height - 8, "left"]);
    }
    for (let index = Math.ceil(south / step); index * step <= north; index += 1) {
      const y = Math.round(py(index * step)) + 0.5;
      pen.moveTo(Math.max(0, px(-180)), y);
      pen.lineTo(Math.min(width, px(180)), y);
      if (y > 130 && y < height - 30) labels.push([degrees(index * step, "NS", step), width - 8, y - 4, "right"]);
    }
    pen.stroke();
    return labels;
  };
  const write = (labels, colour, name) => {
    pen.font = "11px system-ui, sans-serif";
    pen.lineWidth = 4;
    pen.lineJoin = "round";
    pen.strokeStyle = colour("--sea");
    pen.fillStyle = colour(name);
    for (const [text, x, y, align] of labels) {
      pen.textAlign = align;
      pen.strokeText(text, x, y);
      pen.fillText(text, x, y);
    }
  };
  const bar = (colour) => {
    const metres = 111320 / view.scale; // of a pixel, along the meridian
    const long = metres * 110, power = 10 ** Math.floor(Math.log10(long));
    const length = [5, 2, 1].map((one) => one * power).find((one) => one <= long), width = length / metres;
    const x = 12, y = canvas.clientHeight - 30;
    pen.fillStyle = colour("--sea");
    pen.fillRect(x - 2, y - 2, width + 4, 7);
    pen.fillStyle = colour("--ink");
    pen.fillRect(x, y, width, 3);
    write([[length >= 1000 ? `${(length / 1000).toLocaleString("en")} km` : `${length} m`, x, y - 5, "left"]], colour, "--ink");
  };
  let waiting = false;
  const draw = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
      if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
      if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, width, height);
      const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue(name).trim();
      const labels = graticule(colour);
      const colours = Object.fromEntries(tones.map((tone) => [tone.name, colour(`--${tone.name}`)]));
      const near = state.shown.filter(({ box }) => box && px(box[2]) > -9 && px(box[0]) < width + 9 && py(box[3]) < height + 9 && py(box[1]) > -9);
      for (const tone of [...tones].reverse()) {
        pen.fillStyle = pen.strokeStyle = colours[tone.name];
        pen.lineWidth = 1.25;
        pen.setLineDash(tone.name === "unknown" ? [4, 3] : []);
        for (const row of near) {
          if (row.t !== tone.name) continue;
          trace(row);
          pen.globalAlpha = small(row.box) ? 0.85 : row.w ?? (tone.name === "found" ? 0.38 : 0.14);
          pen.fill("evenodd");
          pen.globalAlpha = 1;
          pen.stroke();
        }
      }
      pen.setLineDash([]);
      if (state.chosen && state.chosen.box) {
        trace(state.chosen);
        pen.lineWidth = 5;
        pen.strokeStyle = colour("--sheet");
        pen.stroke();
        pen.lineWidth = 2.5;
        pen.strokeStyle = colour("--focus");
        pen.stroke();
      }
      write(labels, colour, "--quiet");
      bar(colour);
    });
  };
  const inside = (row, x, y) => {
    if (small(row.box)) return Math.abs(px((row.box[0] + row.box[2]) / 2) - x) < 7 && Math.abs(py((row.box[1] + row.box[3]) / 2) - y) < 7;
    if (x < px(row.box[0]) || x > px(row.box[2]) || y < py(row.box[3]) || y > py(row.box[1])) return false;
    let odd = false;
    for (const ring of row.g) {
      for (let i = 0, j = ring.length - 1; i < ring.length; j = i, i += 1) {
        const [ax, ay, bx, by] = [px(ring[i][0]), py(ring[i][1]), px(ring[j][0]), py(ring[j][1])];
        if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
      }
    }
    return odd;
  };
  const under = (event) => state.shown.filter((row) => row.box && inside(row, event.offsetX, event.offsetY));
  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    drag = { x: event.offsetX, y: event.offsetY, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const tip = at("tip");
    if (drag) {
      const [dx, dy] = [event.offsetX - drag.x, event.offsetY - drag.y];
      if (drag.moved || Math.hypot(dx, dy) > 3) {
        view.x -= dx / view.scale / view.squeeze;
        view.y += dy / view.scale;
        drag = { x: event.offsetX, y: event.offsetY, moved: true };
        tip.hidden = true;
        draw();
      }
      return;
    }
    const here = under(event), name = columns.findIndex((column) => column.kind === "name");
    tip.hidden = !here.length;
    if (here.length) {
      tip.textContent = here.slice(0, 4).map((row) => say(row.c[name])).join("\n") + (here.length > 4 ? `\nand ${here.length - 4} more` : "");
      tip.style.left = `${Math.min(event.offsetX + 14, Math.max(0, canvas.clientWidth - tip.offsetWidth - 6))}px`;
      tip.style.top = `${Math.min(event.offsetY + 14, Math.max(0, canvas.clientHeight - tip.offsetHeight - 6))}px`;
    }
  });
  canvas.addEventListener("pointerup", (event) => {
    const moved = drag && drag.moved;
    drag = null;
    const here = moved ? [] : under(event);
    // A second click takes the next one of those that lie on each other.
    if (here.length) choose(here[(here.indexOf(state.chosen) + 1) % here.length]);
  });
  canvas.addEventListener("pointerleave", () => { at("tip").hidden = true; });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * 0.0016), event.offsetX, event.offsetY);
  }, { passive: false });
  at("in").addEventListener("click", () => zoom(1.6));
  at("out").addEventListener("click", () => zoom(1 / 1.6));
  at("fit").addEventListener("click", () => fit());

  // ---- controls
  for (const [index, column] of columns.entries()) {
    const head = make("th", { scope: "col", className: numeric(column.kind) ? "number" : "" });
    head.style.width = column.width;
    if (column.kind === "picture") head.append(make("button", { type: "button", textContent: column.title, disabled: true }));
    else {
      const button = make("button", { type: "button", textContent: column.title, title: column.about || column.title });
      button.addEventListener("click", () => {
        // Large figures first, small ranks and letters from the front; the second click turns it round.
        const down = ["number", "share", "probability", "time"].includes(column.kind);
        [state.down, state.column] = [state.column === index ? !state.down : down, index];
        update();
      });
      head.append(button);
    }
    at("head").append(head);
    if (!column.choose) continue;
    const values = [...new Set(rows.map((row) => row.c[index]).filter((value) => value !== null))].sort(collator.compare);
    const select = make("select", { ariaLabel: column.title }, new Option(`${column.title}: all`, ""), ...values.map((value) => new Option(value, value)));
    select.addEventListener("change", () => { state.choices.set(index, select.value); update(); });
    at("choices").append(select);
  }
  const found = make("select", { ariaLabel: "Finding" }, new Option("Finding: all", ""), ...tones.map((tone) => new Option(tone.title, tone.name)));
  found.addEventListener("change", () => { state.tone = found.value; update(); });
  at("choices").append(found);
  at("legend").append(...tones.filter((tone) => rows.some((row) => row.t === tone.name && row.box)).map((tone) => make("li", {}, make("span", { className: `mark ${tone.name}` }), tone.title)));
  at("search").addEventListener("input", (event) => { state.query = event.target.value; update(); });
  at("reset").addEventListener("click", () => {
    Object.assign(state, { query: "", tone: "", column: rankColumn, down: false });
    state.choices.clear();
    at("search").value = "";
    for (const select of at("choices").children) select.value = "";
    update();
    fit();
  });
  for (const button of document.querySelectorAll("[data-find]")) {
    button.addEventListener("click", () => {
      at("search").value = state.query = button.dataset.find;
      update();
    });
  }
  at("list").addEventListener("scroll", () => table(), { passive: true });
  at("list").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !state.shown.length) return;
    event.preventDefault();
    const place = state.shown.indexOf(state.chosen) + step;
    choose(state.shown[Math.max(0, Math.min(state.shown.length - 1, place))]);
  });
  new ResizeObserver(() => { table(true); draw(); }).observe(canvas);
  new ResizeObserver(() => table(true)).observe(at("list"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  update();
  fit();
  if (state.shown.length) choose(state.shown[0], false);
})();
