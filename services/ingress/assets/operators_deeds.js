// What an operator does to a sale or to a record: its subject. Each dialog that is opened has an idempotency key, under
// which what it asks for is done once: a second click and a repetition after a lost answer are the same.
function newKey() {
  // On a page without TLS there is no randomUUID.
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// A header is bytes, and a reason may be in any language.
const asHeader = (text) => String.fromCharCode(...new TextEncoder().encode(text));

class Deed {
  // What became of it is said in the element `says`.
  constructor(name, { subjectNow, says, request, done }) {
    Object.assign(this, { name, subjectNow, says, request, done, subject: null, key: null, busy: false, unknown: false });
    const within = (css) => byId(`${name}-dialog`).querySelector(css);
    [this.dialog, this.form, this.fields] = [byId(`${name}-dialog`), within("form"), within("fieldset")];
    [this.typed, this.confirm] = [byId(`${name}-typed`), within("[type=submit]")];
    byId(`${name}-open`).addEventListener("click", () => this.open());
    within("[type=button]").addEventListener("click", () => this.dialog.close());
    this.form.addEventListener("input", () => this.check());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
  }

  // One whose outcome is not known is gone on with: under another key it might be done twice.
  open() {
    const subject = this.subjectNow();
    if (!this.busy && (!this.unknown || subject !== this.subject)) {
      Object.assign(this, { subject, key: newKey(), unknown: false });
      this.form.reset();
      this.fields.disabled = false;
      say(`${this.name}-message`, "");
      for (const part of this.dialog.querySelectorAll("[data-subject]")) part.textContent = subject;
    }
    this.check();
    this.dialog.showModal();
  }

  check() {
    this.confirm.disabled = this.busy || this.typed.value.trim() !== this.subject;
  }

  async send() {
    if (this.busy) return;
    this.busy = true;
    this.fields.disabled = true;
    this.check();
    try {
      await this.request(this.subject, this.key);
      this.unknown = false;
      this.dialog.close();
      say(this.says, this.done);
    } catch (error) {
      this.failed(error);
    }
    this.busy = false;
    this.check();
  }

  failed(error) {
    // No answer, or a server's own trouble: it may be in the log. What is refused after that says nothing of before.
    const lost = !(error instanceof Refused) || error.status >= 500;
    this.unknown ||= lost;
    const texts = [this.unknown ? WORDS.outcome_unknown : "", lost ? "" : told(error)];
    say(`${this.name}-message`, texts.filter(Boolean).join(" "));
    if (this.unknown) {
      say(this.says, WORDS.left_unknown);
    } else {
      // Another request under the same key would be refused.
      this.key = newKey();
      this.fields.disabled = false;
    }
  }
}
