"use strict";
{
  const desk = JSON.parse(document.getElementById("data").textContent);
  const quality = document.getElementById("min-quality");
  const ai = document.getElementById("max-ai");
  const show = (id, text) => { document.getElementById(id).textContent = text; };
  const whole = (count) => count.toLocaleString("en");
  const fixed = (value, digits) => (value === null ? "–" : value.toFixed(digits));
  const percent = (part, all) => (all ? (100 * part / all).toFixed(1) + "%" : "–");

  const update = () => {
    const q = Number(quality.value), p = Number(ai.value);
    const cell = q * desk.steps + p, all = desk.steps - 1;
    for (const name of ["pairs", "tokens", "documents"]) {
      show(name, whole(desk[name][cell]));
      show(name + "-share", percent(desk[name][cell], desk[name][all]));
    }
    show("stays", `${whole(desk.pairs[cell])} of ${whole(desk.pairs[all])} pairs stay`
      + (desk.pairs[all] ? ` (${percent(desk.pairs[cell], desk.pairs[all])}).` : "."));
    show("mean-quality", fixed(desk.mean_quality[cell], 3));
    show("mean-ai", fixed(desk.mean_ai[cell], 3));
    const coarseQ = Math.round(q / desk.coarse), coarseP = Math.round(p / desk.coarse);
    for (const name of ["type_token", "distinct_2"]) {
      show(name, fixed(desk[name][coarseQ][coarseP], 3));
    }
    const options = [];
    if (q > 0) options.push("--min-quality " + (q / 100).toFixed(2));
    if (p < all) options.push("--max-ai-probability " + (p / 100).toFixed(2));
    show("command", [desk.before, ...options, desk.after].join(" "));
    for (const [input, value] of [[quality, q], [ai, p]]) {
      const text = (value / 100).toFixed(2);
      show(input.id + "-value", text);
      input.setAttribute("aria-valuetext", text);
    }
    const chosen = document.getElementById("chosen");
    if (chosen) {
      chosen.setAttribute("width", desk.size * p / all);
      chosen.setAttribute("height", desk.size * (1 - q / all));
    }
  };

  quality.addEventListener("input", update);
  ai.addEventListener("input", update);
  document.getElementById("copy").addEventListener("click", async () => {
    const command = document.getElementById("command");
    try {
      await navigator.clipboard.writeText(command.textContent);
      show("copied", "Copied.");
    } catch {
      window.getSelection().selectAllChildren(command);
      show("copied", "Selected: copy it with the keyboard.");
    }
  });
  update();
}
