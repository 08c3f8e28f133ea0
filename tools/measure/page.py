"""W3: the page in a real browser over a large fleet and a long queue: until it is painted, and until a fact is seen."""

import statistics
import subprocess

from harness import ROOT, wait_until
from measure.browser import chromium
from measure.figure import Measurement, Row

PAINT = Row("W3-paint", "ms", 1000)
LIVE = Row("W3-live", "ms", 200)

# Notes when things have been painted: a frame that was asked for after they were there has begun.
WATCH = """
window.painted = {};
const note = (what) => requestAnimationFrame(() => requestAnimationFrame(() => {
  painted[what] ??= [performance.now(), Date.now()];
}));
new MutationObserver(() => {
  const fleet = document.getElementById("fleet"), jobs = document.querySelector("#jobs tbody");
  if (fleet?.children.length && jobs?.children.length) note("all");
  const first = jobs?.querySelector("button")?.textContent;
  if (first?.startsWith("late")) note(first);
}).observe(document, { childList: true, subtree: true });
"""


def measure_page(nodes=1000, jobs=10_000, loads=5, facts=30):
    subprocess.run(["ninja", "-C", str(ROOT / "build"), "bench_page"], check=True, stdout=subprocess.DEVNULL)
    with subprocess.Popen([str(ROOT / "build" / "bin" / "bench_page"), str(nodes), str(jobs)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as plane, chromium() as browser:
        port, token = plane.stdout.readline().split()
        url = f"http://127.0.0.1:{port}/"
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        browser.get(url)
        browser.execute_script("sessionStorage.setItem('stargate-token', arguments[0])", token)

        def painted(what):
            return wait_until(f"{what} is on the page", lambda: browser.execute_script("return painted[arguments[0]]", what), 20)

        paints = []
        for _ in range(loads):
            browser.get(url)
            paints.append(painted("all")[0])
        wait_until("it is live", lambda: browser.find_element("id", "link").text == "live")
        lives = []
        for _ in range(facts):
            plane.stdin.write("\n")
            plane.stdin.flush()
            name, known = plane.stdout.readline().split()
            lives.append(painted(name)[1] - int(known))
        plane.stdin.close()
    what = f"{nodes} nodes, {jobs} jobs, the real API over loopback, headless Chromium"
    return [PAINT.figure(statistics.median(paints), f"{loads} loads of a signed-in page until fleet and queue are painted; {what}", paints),
            LIVE.figure(statistics.quantiles(lives, n=20)[-1], f"95th percentile of {facts} submits, from the fact to its row painted; {what}",
                        lives)]


W3 = Measurement("W3", [PAINT, LIVE], measure_page)
