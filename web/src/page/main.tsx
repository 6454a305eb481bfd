/** Starts the page: the real browser, the real service. */

import { render } from "preact";
import { browserEnvironment, ChatClient } from "../client/index.js";
import { App } from "./components/app.js";
import { Controller, type Surroundings } from "./controller.js";
import { conversationIn, routeTo } from "./route.js";

/** A hidden page draws no frames, yet goes on. */
const HIDDEN_FRAME_MS = 250;

const surroundings: Surroundings = {
  nextFrame: (callback) => {
    if (document.visibilityState === "hidden") setTimeout(callback, HIDDEN_FRAME_MS);
    else requestAnimationFrame(callback);
  },
  conversationInAddress: () => conversationIn(location.hash),
  setAddress: (conversationId, replace) => {
    if (replace) history.replaceState(null, "", routeTo(conversationId));
    else history.pushState(null, "", routeTo(conversationId));
  },
  nowSeconds: () => Date.now() / 1000,
  later: (callback, ms) => setTimeout(callback, ms),
};

const chat = new ChatClient({ environment: browserEnvironment(), baseUrl: location.origin });
const controller = new Controller(chat, surroundings);
const root = document.getElementById("app");
if (root) {
  root.replaceChildren();
  render(<App controller={controller} />, root);
}
window.addEventListener("popstate", () => {
  controller.followAddress();
});
controller.start();
