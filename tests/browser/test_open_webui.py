# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user does: sign in, pick a model, ask, and watch the answer come."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Error, Page, expect

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Site
    from playwright.sync_api import Browser

PATIENCE = 60_000
QUESTION = "What is the capital of France?"

# Notes the length of the answer whenever the page changes: a streamed answer has many lengths, one that comes at once has one.
WATCH = """() => {
  window.answerLengths = [];
  new MutationObserver(() => {
    const answers = document.querySelectorAll('.chat-assistant');
    const length = answers.length ? answers[answers.length - 1].innerText.trim().length : 0;
    if (length && window.answerLengths.at(-1) !== length) window.answerLengths.push(length);
  }).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""


class Visit:
    """One page and the requests that left it."""

    def __init__(self, browser: Browser, site: Site) -> None:
        self.site = site
        self.page: Page = browser.new_page(viewport={"width": 1280, "height": 800}, locale="en-US")
        self.page.set_default_timeout(PATIENCE)
        self.foreign: list[str] = []
        self.network_changed = False
        self.page.on("request", lambda request: self._note_request(request.url))
        self.page.on("requestfailed", lambda request: self._note_failure(request.failure or ""))

    def _note_request(self, url: str) -> None:
        if url.startswith("http") and not url.startswith(self.site.url + "/"):
            self.foreign.append(url)

    def _note_failure(self, failure: str) -> None:
        self.network_changed |= "ERR_NETWORK_CHANGED" in failure

    def sign_in(self) -> None:
        page = self.page
        page.goto(self.site.url)
        page.locator("input[type=email]").fill(self.site.email)
        page.locator("input[type=password]").fill(self.site.password)
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.locator("#chat-input").wait_for(state="attached")
        # The notes of a new release come up over the page, after a while.
        notes = page.get_by_role("button", name="Okay, Let's Go!")
        page.add_locator_handler(notes, notes.click)

    def pick_model(self) -> None:
        page = self.page
        page.locator("#model-selector-model-button").click()
        page.locator("#model-search-input").fill(self.site.model)
        page.get_by_role("option", name=re.compile(re.escape(self.site.model))).first.click()
        expect(page.locator("#model-selector-model-button")).to_have_attribute("aria-label", f"Selected model: {self.site.model}")

    def ask(self, question: str) -> tuple[str, list[int]]:
        """The answer, and the lengths it had on its way."""
        page = self.page
        page.evaluate(WATCH)
        page.locator("#chat-input").fill(question)
        page.locator("#send-message-button").click()
        expect(page.locator(".chat-user").last).to_contain_text(question)
        page.wait_for_function("() => window.answerLengths.length > 0")
        # The button that stops an answer is there until the answer is complete.
        expect(page.get_by_role("button", name="Stop")).to_have_count(0, timeout=2 * PATIENCE)
        return page.locator(".chat-assistant").last.inner_text().strip(), page.evaluate("window.answerLengths")


def chat(browser: Browser, site: Site, screenshots: Path) -> None:
    visit = Visit(browser, site)
    try:
        visit.sign_in()
        visit.pick_model()
        # A random model, which tests use, may end after a word: then ask again.
        answers = (visit.ask(QUESTION) for _attempt in range(3))
        streamed = any(answer and len(lengths) > 2 for answer, lengths in answers)
        visit.page.screenshot(path=screenshots / "open_webui_chat.png")
    except (Error, AssertionError):
        visit.page.screenshot(path=screenshots / "open_webui_failed.png")
        if visit.network_changed:
            raise InterruptedError from None
        raise
    finally:
        visit.page.close()
    assert streamed, "no answer came piece by piece"
    assert not visit.foreign, f"the pages asked other hosts: {visit.foreign}"


def test_sign_in_pick_a_model_and_read_a_streamed_answer(browser: Browser, site: Site, screenshots: Path) -> None:
    for _attempt in range(3):
        try:
            chat(browser, site, screenshots)
        except InterruptedError:
            # Chromium drops what it is loading when any network interface of this machine comes or goes, as containers do.
            continue
        return
    pytest.fail("the network of this machine changed during every attempt")


def test_a_wrong_password_is_refused(browser: Browser, site: Site) -> None:
    page = Visit(browser, site).page
    page.goto(site.url)
    page.locator("input[type=email]").fill(site.email)
    page.locator("input[type=password]").fill(site.password + "x")
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_text("email or password provided is incorrect")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#chat-input")).to_have_count(0)
    page.close()
