// What the pages do beyond HTML: they follow what happens, count ages, keep switches, copy texts.
// Every page works without this file.
"use strict";

(() => {
  const root = document.documentElement;
  const keep = {
    // A browser may forbid to store anything.
    get(name) { try { return localStorage.getItem("celeriac." + name); } catch { return null; } },
    set(name, value) { try { localStorage.setItem("celeriac." + name, value); } catch { /* */ } },
  };

  // The theme: set before the page is drawn, so that it does not flash.
  const THEMES = ["auto", "light", "dark"];
  const theme = () => THEMES.includes(keep.get("theme")) ? keep.get("theme") : "auto";
  const paint = () => {
    if (theme() === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme();
  };
  paint();

  const themeSwitch = () => {
    const button = document.getElementById("theme");
    const show = () => { paint(); button.textContent = "Theme: " + theme(); };
    button.addEventListener("click", () => {
      keep.set("theme", THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
      show();
    });
    addEventListener("storage", show);
    button.hidden = false;
    show();
  };

  // Ages: the same words as those of the server.
  const two = (large, a, small, b) => small ? `${large}${a} ${small}${b}` : `${large}${a}`;
  const rough = (ms) => {
    const s = Math.floor(ms / 1000);
    if (s < 1) return "now";
    if (s < 60) return s + "s";
    if (s < 3600) return two(Math.floor(s / 60), "m", s % 60, "s");
    if (s < 86400) return two(Math.floor(s / 3600), "h", Math.floor(s % 3600 / 60), "m");
    return two(Math.floor(s / 86400), "d", Math.floor(s % 86400 / 3600), "h");
  };
  const age = (element) => {
    const distance = Date.now() - Date.parse(element.dateTime);
    if (Number.isNaN(distance)) return;
    const span = rough(Math.abs(distance));
    const words = span === "now" ? span : distance >= 0 ? span + " ago" : "in " + span;
    if (element.textContent !== words) element.textContent = words;
  };
  const ages = () => { for (const time of document.querySelectorAll("time")) age(time); };

  // Copy buttons, also over plain HTTP, where the browser has no clipboard for scripts.
  const copyText = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      area.className = "hidden";
      area.readOnly = true;
      document.body.append(area);
      area.select();
      const copied = document.execCommand("copy");
      area.remove();
      return copied;
    }
  };
  const copyButtons = (within) => {
    for (const text of within.querySelectorAll(".copy:not([data-copy])")) {
      text.dataset.copy = "";
      const around = document.createElement(text.tagName === "PRE" ? "div" : "span");
      const button = document.createElement("button");
      around.className = "copied";
      button.type = "button";
      button.textContent = "Copy";
      button.addEventListener("click", async () => {
        const copied = await copyText(text.textContent);
        button.textContent = copied ? "Copied" : "Not copied";
        button.focus();
        setTimeout(() => { button.textContent = "Copy"; }, 1500);
      });
      text.replaceWith(around);
      around.append(text, button);
    }
  };

  // One tick for all rows of a table.
  const allTicks = (within) => {
    for (const all of within.querySelectorAll("input[data-all]")) {
      all.hidden = false;
      all.addEventListener("change", () => {
        for (const one of all.closest("table").querySelectorAll("input[name=id]")) {
          one.checked = all.checked;
        }
      });
    }
  };

  // Live parts. Nothing changes under the hands of somebody who chooses rows, marks text or types.
  const waiting = new Map();
  const isHeld = (part) => {
    if (part.querySelector("input:checked")) return true;
    const active = document.activeElement;
    if (part.contains(active) && active.matches("input:not([type=checkbox]), select, textarea")) return true;
    const chosen = getSelection();
    return !chosen.isCollapsed && part.contains(chosen.anchorNode);
  };
  const place = (element, part) => {
    // The same element in the new part, so that the keyboard stays where it was.
    if (!part.contains(element) || element === part) return null;
    const all = [...part.querySelectorAll("a, button, summary, input, [tabindex]")];
    return { at: all.indexOf(element), href: element.getAttribute("href"), tag: element.tagName };
  };
  const refocus = (part, was) => {
    const all = [...part.querySelectorAll("a, button, summary, input, [tabindex]")];
    const same = was.href && all.find((it) => it.getAttribute("href") === was.href);
    const other = all[was.at];
    const found = same || (other && other.tagName === was.tag ? other : null);
    if (found) found.focus({ preventScroll: true });
  };
  const opened = (part) => [...part.querySelectorAll("details")].map((it) => it.open);
  const swap = (part, html) => {
    const was = place(document.activeElement, part);
    const open = opened(part);
    const scrolled = [...part.querySelectorAll(".scroll, pre")]
      .map((it) => [it.scrollLeft, it.scrollTop]);
    part.innerHTML = html;
    const details = part.querySelectorAll("details");
    if (details.length === open.length) details.forEach((it, at) => { it.open = open[at]; });
    part.querySelectorAll(".scroll, pre").forEach((it, at) => {
      if (scrolled[at]) [it.scrollLeft, it.scrollTop] = scrolled[at];
    });
    dress(part);
    if (was) refocus(part, was);
  };
  const settle = () => {
    for (const [id, html] of waiting) {
      const part = document.getElementById(id);
      if (!part) { waiting.delete(id); continue; }
      if (isHeld(part)) continue;
      waiting.delete(id);
      swap(part, html);
    }
  };
  const dress = (within) => {
    copyButtons(within);
    allTicks(within);
    for (const time of within.querySelectorAll("time")) age(time);
  };

  const live = (url) => {
    const button = document.getElementById("live");
    const isOn = () => keep.get("live") !== "off";
    let source = null;
    let pause = 1000;
    const show = (words) => {
      button.textContent = words;
      button.setAttribute("aria-pressed", String(isOn()));
    };
    const stop = () => {
      if (source) source.close();
      source = null;
    };
    const again = async () => {
      // The stream was refused, or the server is away. Whose login has ended gets the login.
      stop();
      const answer = await fetch(location.href, { method: "HEAD", redirect: "manual" })
        .catch(() => null);
      if (answer && answer.type === "opaqueredirect") return location.reload();
      setTimeout(() => { if (isOn() && !source) start(); }, pause);
      pause = Math.min(pause * 2, 15000);
    };
    const start = () => {
      stop();
      source = new EventSource(url);
      source.addEventListener("open", () => { pause = 1000; show("Live"); });
      source.addEventListener("parts", (event) => {
        for (const [id, html] of JSON.parse(event.data)) waiting.set(id, html);
        settle();
      });
      source.addEventListener("error", () => {
        show("Reconnects…");
        if (source && source.readyState === EventSource.CLOSED) again();
      });
    };
    const follow = () => {
      if (isOn() && !document.hidden) { show("Live"); if (!source) start(); }
      else { stop(); show("Live"); }
    };
    button.hidden = false;
    button.title = "Follow what happens, or stop";
    button.addEventListener("click", () => { keep.set("live", isOn() ? "off" : "on"); follow(); });
    addEventListener("storage", follow);
    document.addEventListener("visibilitychange", follow);
    addEventListener("pagehide", stop);
    addEventListener("pageshow", follow);
    follow();
  };

  document.addEventListener("DOMContentLoaded", () => {
    themeSwitch();
    dress(document);
    if (document.body.dataset.events) live(document.body.dataset.events);
    setInterval(() => { if (!document.hidden) { ages(); settle(); } }, 1000);
  });
})();
