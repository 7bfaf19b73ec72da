"use strict";
// Draws the charts, and writes what they compute of the sliders (their signals) where the page has a place for it.
const charts = JSON.parse(document.getElementById("charts").textContent);
const options = { ast: true, actions: false, renderer: "svg" };

function tell(view, place) {
  const name = place.dataset.signal;
  const write = (text) => { place.textContent = text; };
  view.addSignalListener(name, (_, text) => write(text));
  write(view.signal(name));
}

async function draw() {
  for (const [place, chart] of Object.entries(charts)) {
    const { view } = await vegaEmbed("#" + place, chart, options);
    if (place === "trial-histogram") {
      document.querySelectorAll("[data-signal]").forEach((told) => tell(view, told));
    }
  }
  document.documentElement.dataset.drawn = "yes";
}

draw();
