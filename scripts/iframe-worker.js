// Browsers start no worker from a disk (file:). There, the search runs in a hidden frame: the same
// script; messages are copies that come later, as those of a worker do.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(address) {
      const frame = document.createElement("iframe");
      this.frame = frame;
      frame.hidden = true;
      frame.srcdoc = `<script src="${new URL(address, location)}"></script>`;
      this.loaded = new Promise(resolve => { frame.onload = resolve; }).then(() => {
        frame.contentWindow.postMessage = answer => {
          const data = structuredClone(answer);
          setTimeout(() => this.onmessage?.({ data }));
        };
      });
      document.documentElement.append(frame);
    }
    postMessage(message) {
      const data = structuredClone(message);
      this.loaded.then(() => setTimeout(() => {
        this.frame.contentWindow?.dispatchEvent(new MessageEvent("message", { data }));
      }));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
