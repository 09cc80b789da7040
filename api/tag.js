// The tag: shows creatives in <div data-ledger-slot="...">. No cookies, nothing loaded from elsewhere.
(() => {
  "use strict";
  const { dataset, src } = document.currentScript;
  const discreet = { credentials: "omit", referrerPolicy: "no-referrer" };
  const gpc = navigator.globalPrivacyControl === true, dnt = navigator.doNotTrack === "1";
  const showing = new Map(); // by element, what ends what it shows
  const tell = (place, what) => place.dispatchEvent(new CustomEvent("ledger:" + what, { bubbles: true }));
  const visible = () => document.visibilityState === "visible";
  const onceVisible = (act) => visible() ? act()
    : document.addEventListener("visibilitychange", () => onceVisible(act), { once: true });

  // A beacon that arrives twice counts once, so one that may not have arrived is sent again.
  const report = (url, tries = 3) => fetch(url, { ...discreet, keepalive: true })
    .then(({ status }) => { if (status === 429 || status > 499) throw 0; })
    .catch(() => --tries && setTimeout(report, 3000, url, tries));

  const make = (name, properties, style) => {
    const element = Object.assign(document.createElement(name), properties);
    Object.assign(element.style, style || { display: "block", border: 0, maxWidth: "100%", objectFit: "contain" });
    return element;
  };

  // What is put in place; `begun` is called once something of it can be seen, `failed` if nothing ever will.
  const kinds = {
    text: ({ media_content }, begun) => (setTimeout(begun), media_content),
    image: (ad, onload, onerror, size) =>
      make("img", { ...size, alt: ad.alt_text, onload, onerror, src: ad.media_url }),
    video: (ad, onplaying, onerror, size) =>
      make("video", { ...size, muted: true, autoplay: true, playsInline: true, onplaying, onerror, src: ad.media_url }),
    html: (ad, begun, failed, size, signal) => {
      const sandbox = "allow-scripts allow-popups allow-popups-to-escape-sandbox";
      const frame = make("iframe", { ...size, title: ad.alt_text || "Advertisement", sandbox, src: ad.frame_url });
      // A frame that was blocked loads as well; one that shows the creative says so.
      addEventListener("message", ({ data, source }) => {
        if (data === "ledger:rendered" && source === frame.contentWindow) begun();
      }, { signal });
      return frame;
    },
  };

  const empty = (place) => {
    if (showing.has(place)) showing.get(place).abort();
    showing.delete(place);
    place.replaceChildren();
  };
  const close = (place) => { empty(place); tell(place, "closed"); };

  const show = (place, ad, { refresh_seconds, closable }) => {
    empty(place);
    const end = new AbortController(), { signal } = end;
    showing.set(place, end);
    let rendered, inView, viewed, due, timer;
    const wait = () => refresh_seconds && setTimeout(() => { due = true; look(); }, refresh_seconds * 1000);
    // Whenever it may have come into view or gone out of it.
    const look = () => {
      clearTimeout(timer);
      if (signal.aborted || !rendered || !inView || !visible()) return;
      if (due) {
        due = false;
        wait();
        ask([place]);
      } else if (!viewed) timer = setTimeout(() => {
        viewed = true;
        report(ad.view_url);
        tell(place, "viewed");
      }, ad.media_type === "video" ? 2000 : 1000);
    };
    const begun = () => onceVisible(() => {
      if (rendered || signal.aborted) return;
      rendered = true;
      report(ad.impression_url);
      tell(place, "rendered");
      wait();
      look();
    });
    const failed = () => { empty(place); tell(place, "failed"); };
    const { media_type, width, height } = ad;
    let element = kinds[media_type](ad, begun, failed, { width, height, referrerPolicy: "no-referrer" }, signal);
    if (media_type !== "html") {
      const link = make("a", { href: ad.click_url, target: "_blank", rel: "noopener noreferrer nofollow sponsored" });
      link.append(element);
      element = link;
    }
    place.append(element);
    const observer = new IntersectionObserver((seen) => {
      inView = seen.pop().intersectionRatio >= 0.5;
      look();
    }, { threshold: 0.5 });
    observer.observe(element);
    document.addEventListener("visibilitychange", look, { signal });
    signal.onabort = () => { observer.disconnect(); clearTimeout(timer); };
    if (closable) {
      if (getComputedStyle(place).position === "static") place.style.position = "relative";
      place.append(make("button", { textContent: "\u00d7", ariaLabel: "Close", onclick: () => close(place) },
        { position: "absolute", top: 0, right: 0 }));
    }
  };

  const ask = (places) => fetch(new URL("decisions", src), {
    ...discreet,
    method: "POST",
    headers: { Authorization: "Bearer " + dataset.ledgerKey, "Content-Type": "application/json" },
    body: JSON.stringify({
      id: "tag",
      placements: places.map((place, id) => ({ id: "" + id, slot_id: place.dataset.ledgerSlot })),
      viewer: { id: gpc || dnt ? null : dataset.ledgerViewer },
      device: { language: navigator.language },
      site: {
        domain: location.hostname || null,
        keywords: (dataset.ledgerKeywords || "").split(",").map((word) => word.trim()).filter(Boolean),
      },
      privacy: { gpc, dnt },
    }),
  }).then((answer) => answer.json()).then(({ decisions, detail }) => {
    if (!decisions) throw detail;
    decisions.forEach((decision, id) => {
      const ad = decision.ads[0];
      if (ad && kinds[ad.media_type]) show(places[id], ad, decision);
      else tell(places[id], "empty");
    });
  }).catch((reason) => console.warn("ledger:", reason));

  window.ledger = { close };
  const start = () => onceVisible(() => ask([...document.querySelectorAll("[data-ledger-slot]")].slice(0, 20)));
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
  else start();
})();
