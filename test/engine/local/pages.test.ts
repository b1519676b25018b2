import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { sharedEnvironment } from '../../../src/engine/local/engine.ts';
import { addressOf } from '../../../src/engine/local/native.ts';
import { adviseLargePages, reserveArena } from '../../../src/engine/local/pages.ts';

/** The process's mappings that may have large pages, as the kernel lists them. */
function largeMappings(): { from: bigint; to: bigint }[] {
	const found: { from: bigint; to: bigint }[] = [];
	let range: RegExpExecArray | null = null;
	for (const line of readFileSync('/proc/self/smaps', 'utf8').split('\n')) {
		range = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line) ?? range;
		if (range && /^VmFlags:.* hg\b/.test(line)) found.push({ from: BigInt(`0x${range[1]}`), to: BigInt(`0x${range[2]}`) });
	}
	return found;
}

describe.runIf(process.platform === 'linux')('large pages', () => {
	it('are asked for under the whole large pages of a range', () => {
		const array = new Uint8Array(new SharedArrayBuffer(2 ** 24));
		adviseLargePages(addressOf(array), array.byteLength);
		const middle = addressOf(array) + 2n ** 23n;
		expect(largeMappings().some(({ from, to }) => from <= middle && middle < to)).toBe(true);
	});

	it('are not asked for where none fits', () => {
		const array = new Uint8Array(new SharedArrayBuffer(2 ** 20));
		adviseLargePages(addressOf(array), array.byteLength);
		expect(array[0]).toBe(0);
	});

	it('lie under what the arena is extended by, without being touched', () => {
		const bytes = () => largeMappings().reduce((sum, { from, to }) => sum + Number(to - from), 0);
		const before = bytes();
		const resident = process.memoryUsage.rss();
		reserveArena(sharedEnvironment(), 2 ** 28);
		expect(bytes() - before).toBeGreaterThan(2 ** 27);
		expect(process.memoryUsage.rss() - resident).toBeLessThan(2 ** 26);
	});

	it('are left aside where there is no such address space', () => {
		expect(() => reserveArena(sharedEnvironment(), 2 ** 52)).not.toThrow();
	});
});
