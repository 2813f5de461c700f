"""The pages in a browser: by keyboard, in light and dark, on a small screen, with hostile texts."""

import os
import unittest

import browsing
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

# With this many tasks each page still has to come at once.
MANY = int(os.environ.get("CELERIAC_BROWSER_TASKS", "1000000"))

# A page of so many tasks comes within this time, at its best of three loads, in a debug build.
PAGE_SECONDS = 2.0

HOSTILE = "<script>window.harmed=1</script><img src=x onerror='window.harmed=1'>\"'&\u202e"

PAGES = (
    "/",
    "/queues",
    "/queue?name=songs",
    "/queue?name=songs&list=dead",
    "/tasks",
    "/tasks?state=FAILURE&order=ended",
    "/dead",
    "/task?id=failed",
    "/task?id=waits",
    "/workers",
    "/broker",
    "/submit",
    "/nothing",
)

# The texts of a page whose contrast with their ground is below 4.5 to 1.
PALE = """
const channel = (value) => {
  const part = value / 255;
  return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
};
const parse = (colour) => colour.match(/[0-9.]+/g).map(Number);
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const ground = (element) => {
  for (let it = element; it; it = it.parentElement) {
    const colour = parse(getComputedStyle(it).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
const found = [];
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || !element.offsetParent) continue;
  const [one, other] = [light(parse(getComputedStyle(element).color)), light(ground(element))];
  const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  if (contrast < 4.5) found.push(texts.currentNode.data + " " + contrast.toFixed(2));
}
return found;
"""

# Controls without a name, and tables without headers.
NAMELESS = """
const named = (it) => it.labels?.length || it.getAttribute("aria-label") || it.textContent.trim();
const all = "input:not([type=hidden]), select, textarea, button";
const controls = [...document.querySelectorAll(all)];
const hasHead = (it) => it.querySelector("th[scope]");
const tables = [...document.querySelectorAll("table")].filter((it) => !hasHead(it));
return [...controls.filter((it) => !named(it)), ...tables].map((it) => it.outerHTML);
"""


def with_tasks(broker):
    """A task in each state that needs no worker for long."""
    worker = broker.start_worker("--name", "songs.fail", "--queue", "songs", "--", "false")
    try:
        broker.submit(
            {"name": "songs.fail", "id": "failed", "queue": "songs", "max_attempts": 1},
            {"name": "songs.play", "id": "waits", "queue": "songs", "args": ["Dynamite"]},
            {"name": "songs.play", "id": "later", "queue": "songs", "countdown": "1h"},
            {"name": "mail.send", "id": "mail", "queue": "mail"},
        )
        browsing.wait(
            lambda: broker.look("/tasks/failed")["state"] == "FAILURE", "the task has failed"
        )
    finally:
        worker.kill()
        worker.wait()


class Pages(unittest.TestCase):
    """One broker and one browser for all tests of this class."""

    @classmethod
    def setUpClass(cls):
        cls.broker = browsing.Broker()
        cls.addClassCleanup(cls.broker.close)
        with_tasks(cls.broker)
        cls.driver = cls.enterClassContext(browsing.chromium())

    def setUp(self):
        browsing.resize(self.driver, 1280, 900)
        browsing.prefer(self.driver, "light")

    def open(self, path):
        """Opens a page of the broker."""
        self.driver.get(self.broker.url + path)

    def text(self):
        """The text of the page."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def press(self, key):
        """Presses a key, wherever the focus is."""
        ActionChains(self.driver).send_keys(key).perform()

    def tab_to(self, word):
        """Moves the focus on until it is on the control with this word."""
        focused = "return document.activeElement.textContent"
        for _ in range(80):
            self.press(Keys.TAB)
            if self.driver.execute_script(focused) == word:
                return
        self.fail(f"the keyboard does not reach {word}")

    def test_o50_each_page_is_free_of_faults(self):
        for path in PAGES:
            self.driver.get_log("browser")
            self.open(path)
            self.assertEqual(self.driver.execute_script(NAMELESS), [], path)
            faults = [it for it in self.driver.get_log("browser") if it["level"] == "SEVERE"]
            faults = [it["message"] for it in faults if path != "/nothing"]
            self.assertEqual(faults, [], path)

    def test_o50_texts_have_contrast_in_light_and_dark(self):
        grounds = set()
        for scheme in ("light", "dark"):
            browsing.prefer(self.driver, scheme)
            for path in PAGES:
                self.open(path)
                self.assertEqual(self.driver.execute_script(PALE), [], f"{scheme} {path}")
            body = self.driver.find_element(By.TAG_NAME, "body")
            grounds.add(body.value_of_css_property("background-color"))
        self.assertEqual(len(grounds), 2)

    def test_the_theme_is_switched_and_stays(self):
        self.open("/")
        ground = "return getComputedStyle(document.body).backgroundColor"
        light = self.driver.execute_script(ground)
        button = self.driver.find_element(By.ID, "theme")
        button.click()
        self.assertEqual(button.text, "Theme: light")
        button.click()
        self.assertEqual(button.text, "Theme: dark")
        self.assertNotEqual(self.driver.execute_script(ground), light)
        self.open("/queues")
        self.assertEqual(self.driver.find_element(By.ID, "theme").text, "Theme: dark")
        self.assertNotEqual(self.driver.execute_script(ground), light)
        self.driver.find_element(By.ID, "theme").click()
        self.assertEqual(self.driver.execute_script(ground), light)

    def test_o50_a_screen_of_360_pixels_is_wide_enough(self):
        browsing.resize(self.driver, 360, 740)
        for path in PAGES:
            self.open(path)
            width = self.driver.execute_script("return document.documentElement.scrollWidth")
            self.assertLessEqual(width, 360, path)
            inputs = "return [...document.querySelectorAll('button, input')].filter("
            inputs += "(it) => it.getBoundingClientRect().right > 361 && !it.closest('.scroll'))"
            inputs += ".map((it) => it.outerHTML)"
            self.assertEqual(self.driver.execute_script(inputs), [], path)

    def test_o50_a_queue_is_paused_and_resumed_by_keyboard_alone(self):
        self.open("/queues")
        self.tab_to("songs")
        outline = "return getComputedStyle(document.activeElement).outlineStyle"
        self.assertEqual(self.driver.execute_script(outline), "solid", "the focus is visible")
        self.press(Keys.ENTER)
        browsing.wait(lambda: "Queue songs" in self.text(), "the page of the queue")
        for word, is_paused in (("Pause", True), ("Resume", False)):
            self.tab_to(word)
            self.press(Keys.ENTER)
            browsing.wait(
                lambda paused=is_paused: self.broker.look("/queues/songs")["paused"] is paused,
                word,
            )
            browsing.wait(lambda: "The queue" in self.text(), "the page says what was done")

    def test_hostile_texts_do_nothing(self):
        task = {"name": "a", "shadow": HOSTILE, "id": HOSTILE, "tags": [HOSTILE], "args": [HOSTILE]}
        self.broker.submit({**task, "queue": "hostile"})
        for path in ("/", "/tasks", "/queue?name=hostile"):
            self.open(path)
            self.assertIsNone(self.driver.execute_script("return window.harmed || null"), path)
            if path == "/tasks":
                self.assertIn("<script>window.harmed=1</script>", self.text())
                self.assertIn("\\u{202e}", self.text())
                self.driver.find_element(By.PARTIAL_LINK_TEXT, "<script>").click()
                browsing.wait(lambda: "Payload" in self.text(), "the page of the task")
                self.assertIsNone(self.driver.execute_script("return window.harmed || null"))

    def test_a_text_is_copied(self):
        self.open("/task?id=waits")
        self.driver.find_element(By.CSS_SELECTOR, ".ident button").click()
        browsing.wait(
            lambda: self.driver.find_element(By.CSS_SELECTOR, ".ident button").text == "Copied",
            "the button says that it has copied",
        )

    def test_what_cannot_be_undone_asks_first(self):
        self.broker.submit({"name": "a", "id": "doomed", "queue": "doomed"})
        self.open("/queue?name=doomed")
        self.driver.find_element(By.XPATH, "//button[text()='Purge…']").click()
        browsing.wait(lambda: "Purge the queue doomed?" in self.text(), "the page asks")
        self.assertIn("1 task that waits will be revoked", self.text())
        self.driver.find_element(By.LINK_TEXT, "Leave it").click()
        browsing.wait(lambda: "Queue doomed" in self.text(), "back again")
        self.assertEqual(self.broker.look("/tasks/doomed")["state"], "QUEUED")
        self.driver.find_element(By.XPATH, "//button[text()='Purge…']").click()
        browsing.wait(lambda: "Purge the queue" in self.text(), "the page asks")
        self.driver.find_element(By.CSS_SELECTOR, "button.danger").click()
        browsing.wait(lambda: "1 task was revoked" in self.text(), "the page says what was done")
        self.assertEqual(self.broker.look("/tasks/doomed")["state"], "REVOKED")


class Prefix(unittest.TestCase):
    """The pages below a path."""

    def test_links_lead_on_below_a_prefix(self):
        broker = browsing.Broker("--http-path-prefix", "/ops/tasks")
        self.addCleanup(broker.close)
        broker.submit({"name": "a", "id": "a/b?c", "queue": "songs"})
        with browsing.chromium() as driver:
            # Each click leads to another page, which is not there at once.
            driver.implicitly_wait(60)
            driver.get(broker.url + "/ops/tasks/")
            driver.find_element(By.LINK_TEXT, "Tasks").click()
            driver.find_element(By.LINK_TEXT, "a/b?c").click()
            driver.find_element(By.LINK_TEXT, "songs").click()
            driver.find_element(By.XPATH, "//button[text()='Pause']").click()
            driver.find_element(By.XPATH, "//button[text()='Resume']")
            driver.find_element(By.ID, "q").send_keys("a/b?c" + Keys.ENTER)
            browsing.wait(lambda: "/task?id=a%2Fb%3Fc" in driver.current_url, "the task is found")
            self.assertIn(broker.url + "/ops/tasks/task", driver.current_url)
            live = driver.find_element(By.ID, "live")
            browsing.wait(lambda: live.text == "Live", "the stream is open")
            self.assertEqual(driver.get_log("browser"), [])


class Many(unittest.TestCase):
    """The pages of a broker with very many tasks."""

    def test_o42_pages_come_at_once(self):
        broker = browsing.Broker()
        self.addCleanup(broker.close)
        lines = "\n".join(f'{{"name": "songs.play", "queue": "q{n % 50}"}}' for n in range(MANY))
        broker.run("submit", "--lines", "-", text=lines)
        self.assertGreaterEqual(broker.look("/broker")["ready"], MANY)
        took = "const it = performance.getEntriesByType('navigation')[0];"
        took += "return (it.responseEnd - it.requestStart) / 1000"
        with browsing.chromium() as driver:
            for path in ("/", "/queues", "/queue?name=q7", "/tasks", "/tasks?order=kept", "/dead"):
                loads = []
                for _ in range(3):
                    driver.get(broker.url + path)
                    loads.append(driver.execute_script(took))
                seconds = min(loads)
                print(f"{path} with {MANY} tasks: {seconds * 1000:.0f} ms")
                self.assertLess(seconds, PAGE_SECONDS, path)


if __name__ == "__main__":
    unittest.main()
