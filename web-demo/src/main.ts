/**
 * Puts the two halves of the page together.
 */
import { find } from './ui/dom';
import { PublishPanel } from './ui/publish-panel';
import { WatchPanel } from './ui/watch-panel';

/** On a phone one half is shown at a time. */
function listenToViews(): void {
  const buttons = [...document.querySelectorAll<HTMLButtonElement>('[data-show]')];
  for (const button of buttons) {
    button.addEventListener('click', () => {
      find(document, 'body').dataset['view'] = button.dataset['show'];
      for (const other of buttons) {
        if (other === button) {
          other.setAttribute('aria-current', 'page');
        } else {
          other.removeAttribute('aria-current');
        }
      }
    });
  }
}

listenToViews();
const publish = new PublishPanel(() => watch.ownPeerChanged());
const watch = new WatchPanel({
  isOwn: (peerId) => publish.isOwn(peerId),
  capabilities: (device) => publish.setCapabilities(device),
});
watch.open();
