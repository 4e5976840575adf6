/**
 * Copies text and says so on the button that was pressed.
 */
import { find } from './dom';

/** How long the button says that it worked, in milliseconds. */
const CONFIRM_MS = 1_600;

export async function copyText(text: string, button: HTMLElement): Promise<void> {
  const label = button.querySelector('span') ?? button;
  const before = label.textContent;
  label.textContent = (await tryCopy(text)) ? 'Copied' : 'Not allowed';
  setTimeout(() => {
    label.textContent = before;
  }, CONFIRM_MS);
}

async function tryCopy(text: string): Promise<boolean> {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Refused: the old way below may still be allowed.
    }
  }
  // Pages without https have no clipboard, but may copy what is selected.
  const field = document.createElement('textarea');
  field.value = text;
  field.className = 'visually-hidden';
  find(document, 'body').append(field);
  field.select();
  const copied = document.execCommand('copy');
  field.remove();
  return copied;
}
