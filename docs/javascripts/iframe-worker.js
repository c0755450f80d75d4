/* Browsers start no worker from a file; where the site is opened without a server, a hidden frame does the search.
   The theme's `offline` plugin would fetch such a script from the network; it leaves that be when it finds this name. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const place = new URL(url, location);
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.inside = frame.contentWindow;
      const load = (source) =>
        new Promise((done, failed) => {
          const script = this.inside.document.createElement("script");
          Object.assign(script, { src: new URL(source, place), onload: done, onerror: failed });
          this.inside.document.head.append(script);
        });
      this.inside.importScripts = (...sources) => Promise.all(sources.map(load));
      this.inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      this.loaded = load(place);
    }
    postMessage(data) {
      this.loaded.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {
      this.inside.frameElement.remove();
    }
  };
}
