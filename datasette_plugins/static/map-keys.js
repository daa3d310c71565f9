// The keyboard on the map. Letters work wherever nobody is writing; arrows where the map has the
// focus.
// The keys of every page, such as "/", are those of keys.js.

import { isTyping } from "./keys.js";

const DIRECTIONS = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, 1],
  ArrowDown: [0, -1],
};
const CLOSER = 1.5;

/** @param keys step([dx, dy]), open(), zoom(factor), fit(), lasso(), escape() */
export function listen(keys) {
  const handler = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event)) return null;
    if (document.querySelector("dialog[open]")) return null;
    if (event.key === "Escape") return keys.escape;
    const isOnMap = event.target === document.body || event.target.closest?.(".canvas");
    if (isOnMap) {
      if (event.key in DIRECTIONS) return () => keys.step(DIRECTIONS[event.key]);
      if (event.key === "Enter") return keys.open;
    }
    switch (event.key) {
      case "+":
      case "=":
        return () => keys.zoom(CLOSER);
      case "-":
        return () => keys.zoom(1 / CLOSER);
      case "0":
        return keys.fit;
      case "l":
      case "L":
        return keys.lasso;
      default:
        return null;
    }
  };
  document.addEventListener("keydown", (event) => {
    const answer = handler(event);
    if (!answer) return;
    event.preventDefault();
    answer();
  });
}
