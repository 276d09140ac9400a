/** Elements of the page. What others said becomes text, never HTML: nothing here parses any. */

type Child = Node | string;

interface Attributes {
  readonly class?: string;
  readonly [name: string]: string | undefined;
}

/** An element with attributes and children. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (value !== undefined) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A button with what it does. Its promise makes it wait: it is not pressed twice. */
export function button(text: string, press: () => Promise<void> | void, attributes: Attributes = {}) {
  const element = make("button", { type: "button", ...attributes }, text);
  element.addEventListener("click", async () => {
    if (element.disabled) return;
    element.disabled = true;
    try {
      await press();
    } finally {
      element.disabled = false;
    }
  });
  return element;
}

/** Set a text only where it is another: what an operator has selected stays selected. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** What is shown of one item of a list, and what brings it up to date. */
export interface Shown<T> {
  readonly element: HTMLElement;
  update(item: T): void;
}

/** A list whose elements stay when it changes: a text that is being typed there, and the focus, stay too. */
export class KeyedList<T> {
  readonly #shown = new Map<string, Shown<T>>();

  constructor(
    readonly container: HTMLElement,
    readonly keyOf: (item: T) => string,
    readonly makeOne: (item: T) => Shown<T>,
  ) {}

  show(items: readonly T[]): void {
    const keys = new Set(items.map(this.keyOf));
    for (const [key, { element }] of this.#shown) {
      if (keys.has(key)) continue;
      element.remove();
      this.#shown.delete(key);
    }
    for (const [index, item] of items.entries()) {
      const key = this.keyOf(item);
      const shown = this.#shown.get(key) ?? this.makeOne(item);
      this.#shown.set(key, shown);
      shown.update(item);
      const there = this.container.children[index];
      if (there !== shown.element) this.container.insertBefore(shown.element, there ?? null);
    }
  }
}

/** Ask before something happens to a node. @param more what stands between the question and its buttons. */
export function confirmed(
  question: string,
  action: string,
  ...more: readonly HTMLElement[]
): Promise<boolean> {
  const dialog = make("dialog", {}, make("p", {}, question), ...more);
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const answer = (yes: boolean) => () => {
    resolve(yes);
    dialog.close();
  };
  dialog.append(
    make(
      "div",
      { class: "buttons" },
      button("Cancel", answer(false)),
      button(action, answer(true), { class: "danger" }),
    ),
  );
  dialog.addEventListener("close", () => {
    resolve(false);
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
  return promise;
}
