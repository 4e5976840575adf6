/**
 * Finding elements of the page. An element that is not there is a mistake in `index.html`, so it throws.
 */

type Constructor<T> = abstract new (...args: never[]) => T;

function checked<T extends Element>(element: Element | null, type: Constructor<T>, name: string): T {
  if (!(element instanceof type)) {
    throw new Error(`index.html has no ${type.name} ${name}`);
  }
  return element;
}

/** The element with an id. */
export function byId<T extends Element = HTMLElement>(
  id: string,
  type: Constructor<T> = HTMLElement as unknown as Constructor<T>,
): T {
  return checked(document.getElementById(id), type, `#${id}`);
}

/** The first element below `root` that a selector matches. */
export function find<T extends Element = HTMLElement>(
  root: ParentNode,
  selector: string,
  type: Constructor<T> = HTMLElement as unknown as Constructor<T>,
): T {
  return checked(root.querySelector(selector), type, selector);
}

/** Shows the text, or hides the element when there is none. Unchanged text is not announced again. */
export function setNotice(element: HTMLElement, text: string | undefined): void {
  if (element.textContent !== (text ?? '')) {
    element.textContent = text ?? '';
  }
  element.hidden = text === undefined;
}

/** The colours of a state's pill. */
export type Tone = 'idle' | 'busy' | 'good' | 'live' | 'bad';

export function setPill(element: HTMLElement, tone: Tone, text: string): void {
  element.dataset['tone'] = tone;
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/** Labels a button that is either on or off. */
export function setToggle(button: HTMLElement, pressed: boolean, icon: string, text: string): void {
  button.setAttribute('aria-pressed', String(pressed));
  find(button, 'use', SVGUseElement).setAttribute('href', `#${icon}`);
  find(button, 'span').textContent = text;
}
