"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function merged(base, more) {
  const result = { ...base };
  for (const [key, value] of Object.entries(more)) {
    const both = value && result[key] && typeof value === "object" && !Array.isArray(value);
    result[key] = both ? merged(result[key], value) : value;
  }
  return result;
}

function draw() {
  const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), zerolinecolor: colour("--line"), tickcolor: colour("--line"), title: { font: { size: 13 } } };
  const theme = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", height: 360, hovermode: "closest",
    margin: { t: 12, r: 18, b: 52, l: 58 },
    font: { color: colour("--ink"), family: getComputedStyle(document.body).fontFamily, size: 13 },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--ink") }, align: "left" },
    xaxis: axis, yaxis: axis,
  };
  for (const [id, figure] of Object.entries(figures)) {
    const config = { responsive: true, displaylogo: false, displayModeBar: false };
    const layout = merged(theme, figure.layout);
    const plate = { bgcolor: colour("--card"), borderpad: 1 };  // keeps a tick's text readable above the lines
    layout.annotations = (layout.annotations || []).map((annotation) => ({ ...annotation, ...plate }));
    Plotly.react(id, figure.data, layout, config);
  }
}

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
