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

/** Arrays of `size` elements, all zero, on large pages. */
export function allocateBank(size: number, moments: number, gradient: boolean): BankMemory {
	const bytes = size * 4;
	const count = 1 + (gradient ? 1 : 0) + moments;
	const pages = gradient && moments > 0 ? pagesFor(count * (bytes + line)) : undefined;
	const memory = pages === undefined ? undefined : createMemory(pages);
	const array = (index: number) =>
		memory
			? new Float32Array(memory.buffer, index * (bytes + line), size)
			: new Float32Array(new SharedArrayBuffer(bytes) as SharedArrayBuffer, 0, size);
	const arrays = Array.from({ length: count }, (_, i) => array(i));
	for (const buffer of new Set(arrays.map((a) => a.buffer))) adviseLargePages(addressOf(new Uint8Array(buffer)), buffer.byteLength);
	const [parameter, ...rest] = arrays;
	return { parameter: parameter!, gradient: gradient ? rest[0] : undefined, moments: rest.slice(gradient ? 1 : 0), memory };
}
