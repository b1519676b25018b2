/** @file Names made safe for pictures and pages: whatever a profile calls a layer, it stays text. */

const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const mark = '\ufffd';

/** `text` for XML and HTML, in content or between quotes; what XML 1.0 forbids (control characters, halves of pairs) becomes a replacement mark. */
export function escapeXml(text: string): string {
	return text.replace(/[\p{Cc}\p{Cs}\ufffe\uffff&<>"']/gu, (c) => entities[c] ?? (c === '\n' || c === '\t' ? c : mark));
}

/** `text` for one line of a terminal: control characters, which could move the cursor or change colours, become a replacement mark. */
export function escapeControls(text: string): string {
	return text.replace(/[\p{Cc}\p{Cs}\u2028\u2029]/gu, mark);
}
