// What the page adds to textual-serve's script: the terminal has the focus at once, and no key is lost.
"use strict";

// Keys may come before the connection is open.
window.WebSocket = class extends WebSocket {
  send(data) {
    if (this.readyState === WebSocket.CONNECTING) {
      this.addEventListener("open", () => super.send(data), { once: true });
    } else if (this.readyState === WebSocket.OPEN) {
      super.send(data);
    }
  }
};

const start = window.onload;
window.onload = async (event) => {
  document.getElementById("again").onclick = () => window.location.reload();
  // The size of a cell is measured once: with the font, not with what stands in for it.
  await Promise.allSettled(["", "bold ", "italic "].map((style) => document.fonts.load(`${style}14px "Roboto Mono"`)));
  start(event);
  const terminal = document.querySelector(".xterm-helper-textarea");
  terminal.focus();
  new MutationObserver(() => {
    if (document.body.classList.contains("-closed")) document.getElementById("again").focus();
  }).observe(document.body, { attributeFilter: ["class"] });
};
