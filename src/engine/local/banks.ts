/** @file Memory of banks: the flat arrays of a stage's parameters, gradients and optimiser moments. */
import { createMemory, type KernelMemory, pagesFor } from './kernel/memory.ts';
import { addressOf } from './native.ts';
import { adviseLargePages } from './pages.ts';

/** Flat arrays of a bank, in shared memory, so that the engine's caller can read and write weights between iterations. */
export interface BankMemory {
	readonly parameter: Float32Array<SharedArrayBuffer>;
	readonly gradient: Float32Array<SharedArrayBuffer> | undefined;
	readonly moments: readonly Float32Array<SharedArrayBuffer>[];
	/** The memory all arrays lie in, where the optimiser's kernel reaches them; undefined when there is nothing to optimise or it would be too large. */
	readonly memory: KernelMemory | undefined;
}

/** Every array begins a cache line further into its page than the one before, so that equal places in them do not fall on the same cache lines. */
const line = 64;

/** Arrays, all zero, on large pages: parameters of `size` elements, gradient and moments of the `trained` first of them. */
export function allocateBank(size: number, moments: number, gradient: boolean, trained = size): BankMemory {
	const count = 1 + (gradient ? 1 : 0) + moments;
	const lengths = Array.from({ length: count }, (_, i) => (i === 0 ? size : trained));
	const start = (index: number): number => (index === 0 ? 0 : size * 4 + line + (index - 1) * (trained * 4 + line));
	const pages = gradient && moments > 0 ? pagesFor(start(count)) : undefined;
	const memory = pages === undefined ? undefined : createMemory(pages);
	const array = (index: number) =>
		memory
			? new Float32Array(memory.buffer, start(index), lengths[index])
			: new Float32Array(new SharedArrayBuffer(lengths[index]! * 4) as SharedArrayBuffer, 0, lengths[index]);
	const arrays = lengths.map((_, i) => array(i));
	for (const buffer of new Set(arrays.map((a) => a.buffer))) adviseLargePages(addressOf(new Uint8Array(buffer)), buffer.byteLength);
	const [parameter, ...rest] = arrays;
	return { parameter: parameter!, gradient: gradient ? rest[0] : undefined, moments: rest.slice(gradient ? 1 : 0), memory };
}
