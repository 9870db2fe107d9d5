"use strict";
// The margin explorer: a histogram a source, one above the other, and images of the chosen bin and of the ends.

const FATES = ["kept", "dropped", "held out for validation"];
const FATE_CLASSES = ["", "dropped", "held-out"];
const SHOWN_AT_FIRST = 12;
const TILE = 64; // pixels that the larger side of an image has at most, where whole multiples allow it
const ROW_HEIGHT = 120, TOP = 40, BOTTOM = 38, LEFT = 52, RIGHT = 12, OUTER_GAP = 3;

const svgElement = (name, attributes = {}, text = "") => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
};

const htmlElement = (name, className = "", text = "") => {
  const element = document.createElement(name);
  element.className = className;
  element.textContent = text;
  return element;
};

const inWords = (value) => (value === null ? "infinite" : String(Number(value.toPrecision(3))));
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

class Explorer {
  constructor(article) {
    this.article = article;
    this.number = article.id.split("-").pop();
    this.data = JSON.parse(this.part("data").textContent);
    this.chart = this.part("chart");
    this.last = this.data.edges.length; // the bin of plus infinity
    this.bins = [...Array(this.last + 1).keys()].filter((bin) => (bin > 0 && bin < this.last) || this.total(bin) > 0);
    this.choice = Math.max(0, this.data.choices.findIndex((choice) => choice.cuts.length > 0));
    this.class = null;
    this.fillControls();
    this.listen();
    this.bin = this.firstBin();
    this.draw();
  }

  part(role) {
    return this.article.querySelector(`[data-role="${role}"]`);
  }

  // How many images of the chosen class are in a bin, in a table of counts by class and bin.
  count(counts, bin) {
    return this.class === null ? sum(counts.map((bins) => bins[bin])) : counts[this.class][bin];
  }

  images(source, bin) {
    return this.count(this.data.sources[source].counts, bin);
  }

  dropped(source, bin) {
    return this.count(this.data.choices[this.choice].dropped[source], bin);
  }

  heldOut(source, bin) {
    return this.count(this.data.choices[this.choice].heldOut[source], bin);
  }

  total(bin) {
    return sum(this.data.sources.map((source) => sum(source.counts.map((bins) => bins[bin]))));
  }

  // Where it cuts, else the fullest bin: there is something to see.
  firstBin() {
    const cut = this.data.choices[this.choice].cuts.find(([, , at]) => at !== null);
    if (cut) return this.binOf(cut[2]);
    return this.bins.reduce((best, bin) => (this.total(bin) > this.total(best) ? bin : best), this.bins[0]);
  }

  binOf(value) {
    const above = this.data.edges.findIndex((edge) => edge > value);
    return above < 0 ? this.last - 1 : Math.max(1, above);
  }

  fillControls() {
    const classes = this.part("class");
    classes.append(new Option("all", ""));
    this.data.classes.forEach((name, number) => classes.append(new Option(name, number)));
    this.part("choice").value = this.choice;
    this.part("choice").closest("label").hidden = this.data.choices.length < 2;
  }

  listen() {
    this.part("choice").addEventListener("change", (event) => {
      this.choice = Number(event.target.value);
      this.draw();
    });
    this.part("class").addEventListener("change", (event) => {
      this.class = event.target.value === "" ? null : Number(event.target.value);
      this.draw();
    });
    this.part("log").addEventListener("change", () => this.drawChart());
    this.chart.addEventListener("keydown", (event) => this.onKey(event));
    this.chart.addEventListener("click", (event) => this.onClick(event));
    new ResizeObserver(() => this.drawChart()).observe(this.chart);
  }

  onKey(event) {
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity };
    if (!(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const place = this.bins.indexOf(this.bin) + steps[event.key];
    this.choose(this.bins[Math.min(Math.max(place, 0), this.bins.length - 1)]);
  }

  onClick(event) {
    const x = event.clientX - this.chart.getBoundingClientRect().left;
    const distance = (bin) => Math.abs(x - this.left(bin) - this.width / 2);
    this.choose(this.bins.reduce((best, bin) => (distance(bin) < distance(best) ? bin : best)));
  }

  choose(bin) {
    this.bin = bin;
    this.drawChart();
    this.drawBin();
  }

  draw() {
    for (const lead of this.article.querySelectorAll(".lead")) lead.hidden = Number(lead.dataset.choice) !== this.choice;
    const { cuts, epsilon } = this.data.choices[this.choice];
    this.part("cut").hidden = cuts.length === 0;
    this.part("epsilon").hidden = epsilon === null;
    this.drawChart();
    this.drawBin();
    this.drawEnds();
  }

  // The chart

  get width() {
    const outer = this.bins.filter((bin) => bin === 0 || bin === this.last).length;
    return (this.chart.clientWidth - LEFT - RIGHT) / (this.bins.length + outer * OUTER_GAP);
  }

  // The left edge of a bin; those of infinite scores stand apart.
  left(bin) {
    const before = this.bins[0] === 0 && bin > 0 ? 1 + OUTER_GAP : 0;
    const place = bin === 0 ? 0 : bin - 1 + before + (bin === this.last ? OUTER_GAP : 0);
    return LEFT + place * this.width;
  }

  x(value) {
    const edges = this.data.edges;
    const share = (value - edges[0]) / (edges[edges.length - 1] - edges[0]);
    return this.left(1) + Math.min(Math.max(share, 0), 1) * (edges.length - 1) * this.width;
  }

  drawChart() {
    const sources = this.data.sources;
    const height = TOP + sources.length * ROW_HEIGHT + BOTTOM;
    const svg = svgElement("svg", { height, "aria-hidden": "true" });
    svg.append(this.patterns());
    svg.append(svgElement("rect", { class: "chosen", x: this.left(this.bin), y: TOP - 2, width: this.width, height: height - TOP - BOTTOM + 4 }));
    sources.forEach((source, number) => this.drawRow(svg, source, number));
    this.drawAxis(svg, height - BOTTOM);
    this.drawMarks(svg, height - BOTTOM);
    this.chart.replaceChildren(svg);
    this.chart.setAttribute("aria-valuemax", this.bins.length - 1);
    this.chart.setAttribute("aria-valuenow", this.bins.indexOf(this.bin));
    this.chart.setAttribute("aria-valuetext", this.told(this.bin));
  }

  // Stripes of what is dropped, dots of what is held out: without colours, too, they are not what is kept.
  patterns() {
    const stripes = svgElement("pattern", { id: `hatch-${this.number}`, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
    stripes.append(svgElement("rect", { class: "dropped", width: 4.5, height: 6 }));
    const dots = svgElement("pattern", { id: `dots-${this.number}`, width: 5, height: 5, patternUnits: "userSpaceOnUse" });
    dots.append(svgElement("circle", { class: "held-out", cx: 2.5, cy: 2.5, r: 1.75 }));
    const definitions = svgElement("defs");
    definitions.append(stripes, dots);
    return definitions;
  }

  drawRow(svg, source, number) {
    const base = TOP + (number + 1) * ROW_HEIGHT;
    const space = ROW_HEIGHT - 26;
    const most = Math.max(1, ...this.bins.map((bin) => this.images(number, bin)));
    const logarithmic = this.part("log").checked;
    const scaled = (count) => (space * (logarithmic ? Math.log1p(count) / Math.log1p(most) : count / most));
    for (const bin of this.bins) {
      const [all, gone, apart] = [this.images(number, bin), this.dropped(number, bin), this.heldOut(number, bin)];
      const [x, width] = [this.left(bin) + 0.5, Math.max(this.width - 1, 0.5)];
      let top = base;
      const stack = (count, attributes) => {
        const height = all ? (scaled(all) * count) / all : 0;
        top -= height;
        svg.append(svgElement("rect", { ...attributes, x, y: top, width, height }));
      };
      stack(all - gone - apart, { class: "kept" });
      stack(gone, { fill: `url(#hatch-${this.number})` });
      stack(apart, { fill: `url(#dots-${this.number})` });
    }
    svg.append(svgElement("line", { class: "axis", x1: LEFT, x2: this.chart.clientWidth - RIGHT, y1: base, y2: base }));
    svg.append(svgElement("text", { x: LEFT, y: base - ROW_HEIGHT + 16 }, `${source.name} images`));
    svg.append(svgElement("text", { class: "quiet", x: LEFT - 6, y: base - space + 8, "text-anchor": "end" }, most.toLocaleString("en")));
    svg.append(svgElement("text", { class: "quiet", x: LEFT - 6, y: base, "text-anchor": "end" }, "0"));
  }

  drawAxis(svg, base) {
    const edges = this.data.edges;
    const room = Math.max(2, Math.floor((this.chart.clientWidth - LEFT) / 90));
    const span = edges[edges.length - 1] - edges[0];
    const power = 10 ** Math.floor(Math.log10(span / room));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power * room >= span);
    for (let tick = Math.ceil(edges[0] / step - 1e-9); tick * step <= edges[edges.length - 1] + 1e-9 * span; tick += 1) {
      const x = this.x(tick * step);
      svg.append(svgElement("line", { class: "axis", x1: x, x2: x, y1: base, y2: base + 4 }));
      svg.append(svgElement("text", { class: "quiet", x, y: base + 17, "text-anchor": "middle" }, inWords(tick * step)));
    }
    for (const bin of [0, this.last].filter((bin) => this.bins.includes(bin))) {
      const x = this.left(bin) + this.width / 2;
      svg.append(svgElement("text", { class: "quiet", x, y: base + 17, "text-anchor": "middle" }, bin === 0 ? "-∞" : "∞"));
    }
    const middle = LEFT + (this.chart.clientWidth - LEFT - RIGHT) / 2;
    svg.append(svgElement("text", { x: middle, y: base + 33, "text-anchor": "middle" }, this.data.score));
  }

  drawMarks(svg, base) {
    const { cuts, epsilon } = this.data.choices[this.choice];
    if (epsilon !== null) this.drawMark(svg, epsilon, "epsilon", `ε = ${inWords(epsilon)}`, 32, TOP - 6, base);
    for (const [place, side, at, partly] of cuts) {
      if (at === null || (place.class !== undefined && place.class !== this.class)) continue;
      const rows = place.sources ?? [];
      const top = rows.length ? TOP + rows[0] * ROW_HEIGHT : TOP - 22;
      const bottom = rows.length ? TOP + (rows[rows.length - 1] + 1) * ROW_HEIGHT : base;
      this.drawMark(svg, at, "cut", partly ? `dropped ${side} ${inWords(at)}, in part at it` : `dropped from ${inWords(at)} ${side === "above" ? "up" : "down"}`, rows.length ? top + 12 : 14, top, bottom);
    }
  }

  // The label of epsilon stands left of its line, that of a cut right, so that neither crosses the other's.
  drawMark(svg, value, className, label, y, y1, y2) {
    const x = this.x(value);
    const toTheLeft = className === "epsilon" ? x > LEFT + 70 : x > this.chart.clientWidth - 150;
    svg.append(svgElement("line", { class: className, x1: x, x2: x, y1, y2 }));
    svg.append(svgElement("text", { x: x + (toTheLeft ? -5 : 5), y, "text-anchor": toTheLeft ? "end" : "start" }, label));
  }

  // Words

  range(bin) {
    const { edges, lowest, highest, score } = this.data;
    if (bin === 0) return `${score} -∞`;
    if (bin === this.last) return `${score} ∞`;
    const low = bin === 1 && lowest < edges[0] ? lowest : edges[bin - 1];
    const high = bin === this.last - 1 && highest > edges[bin] ? highest : edges[bin];
    return `${score} ${inWords(low)} to ${inWords(high)}`;
  }

  told(bin) {
    const parts = this.data.sources.map((source, number) => {
      const images = this.images(number, bin);
      return `${source.name} ${images.toLocaleString("en")}, ${this.dropped(number, bin).toLocaleString("en")} dropped`;
    });
    return `${this.range(bin)}: ${parts.join("; ")}`;
  }

  // Images

  drawBin() {
    const name = this.class === null ? "" : `, class ${this.data.classes[this.class]}`;
    this.part("bin-title").textContent = `Images of ${this.range(this.bin)}${name}`;
    const score = ({ shown }, place) => shown[place][3] ?? 0;
    const strips = this.data.sources.map((source, number) => {
      const chosen = [...source.shown.keys()].filter((place) => source.shown[place][2] === this.bin);
      chosen.sort((one, other) => score(source, one) - score(source, other));
      const told = `${this.images(number, this.bin).toLocaleString("en")}, ${this.dropped(number, this.bin).toLocaleString("en")} of them dropped`;
      return this.strip(number, chosen, told, 24);
    });
    this.part("bin").replaceChildren(...strips);
  }

  drawEnds() {
    const sections = this.data.ends.map(({ end, title, why }) => {
      const section = htmlElement("section");
      section.setAttribute("aria-label", title);
      section.append(htmlElement("h4", "", title), htmlElement("p", "note", why));
      this.data.sources.forEach((source, number) => section.append(this.strip(number, source.ends[end], "", SHOWN_AT_FIRST)));
      return section;
    });
    this.part("ends").replaceChildren(...sections);
  }

  // Images of one source, those of the chosen class.
  strip(number, places, told, most) {
    const source = this.data.sources[number];
    const chosen = places.filter((place) => this.class === null || source.shown[place][1] === this.class);
    const strip = htmlElement("div", "strip");
    const heading = htmlElement("p");
    heading.append(htmlElement("strong", "", source.name));
    const dropped = chosen.filter((place) => this.fate(number, place) === 1).length;
    heading.append(told ? ` images: ${told}; ${chosen.length} here` : ` images: ${chosen.length} here, ${dropped} of them dropped`);
    const list = htmlElement("ul", "images");
    list.append(...chosen.slice(0, most).map((place) => this.tile(number, place)));
    strip.append(heading, list);
    if (chosen.length > most) {
      const more = htmlElement("button", "more", `Show all ${chosen.length} ${source.name} images`);
      more.type = "button";
      more.addEventListener("click", () => {
        const added = chosen.slice(most).map((place) => this.tile(number, place));
        list.append(...added);
        more.remove();
        added[0].tabIndex = -1; // the button had the focus, and is gone
        added[0].focus();
      });
      strip.append(more);
    }
    return strip;
  }

  fate(number, place) {
    return Number(this.data.choices[this.choice].fates[number][place]);
  }

  tile(number, place) {
    const { shown, grid, name } = this.data.sources[number];
    const [row, label, bin, score, prediction] = shown[place];
    const fate = this.fate(number, place);
    const value = score === null ? (bin === 0 ? "-∞" : "∞") : inWords(score);
    const wrong = prediction !== null && prediction !== label;
    const item = htmlElement("li");
    const image = htmlElement("span", `image sprite-${this.number}-${number} ${FATE_CLASSES[fate]}`);
    const words = [`${name} image ${row}`, `class ${this.data.classes[label]}`, `${this.data.score} ${value}`, FATES[fate]];
    if (wrong) words.push(`taken for ${this.data.classes[prediction]}`);
    image.setAttribute("role", "img");
    image.setAttribute("aria-label", words.join(", "));
    image.title = words.join(", ");
    this.place(image, grid, place);
    item.append(image, htmlElement("span", "", value));
    if (wrong) item.append(htmlElement("div", "wrong", `${this.short(label)} → ${this.short(prediction)}`));
    return item;
  }

  short(label) {
    const name = this.data.classes[label];
    return name.length > 10 ? `${name.slice(0, 9)}…` : name;
  }

  place(image, grid, place) {
    const factor = Math.max(1, Math.floor(TILE / Math.max(...grid.size)));
    const [width, height] = grid.size.map((side) => side * factor);
    image.style.width = `${width}px`;
    image.style.height = `${height}px`;
    image.style.backgroundSize = `${grid.columns * grid.pitch[0] * factor}px auto`;
    const [column, line] = [place % grid.columns, Math.floor(place / grid.columns)];
    image.style.backgroundPosition = `${-column * grid.pitch[0] * factor}px ${-line * grid.pitch[1] * factor}px`;
    image.classList.toggle("enlarged", factor > 1);
  }
}

for (const article of document.querySelectorAll(".explorer")) new Explorer(article);
