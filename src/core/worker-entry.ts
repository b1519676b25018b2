/** @file Where the compiled file of a worker thread lies, also when the caller itself runs from its TypeScript source. */

/**
 * The URL of a worker's entry file. Node cannot start a thread from TypeScript, so a caller in `src/` (under a test runner) gets the file that the
 * build put at the same place in `dist/`; a caller in `dist/` gets its neighbour.
 * @param importMetaUrl the caller's `import.meta.url`
 * @param entry the entry relative to the caller, ending in `.js`
 */
export function workerEntry(importMetaUrl: string, entry: string): URL {
	const url = new URL(entry, importMetaUrl);
	const source = url.pathname.lastIndexOf('/src/');
	if (new URL(importMetaUrl).pathname.endsWith('.ts') && source !== -1) {
		url.pathname = `${url.pathname.slice(0, source)}/dist/${url.pathname.slice(source + '/src/'.length)}`;
	}
	return url;
}
