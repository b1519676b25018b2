/** @file Memory that WebAssembly and native code share, and functions compiled for it. */

/** A shared WebAssembly memory; goes to other threads as it is. */
export interface KernelMemory {
	readonly buffer: SharedArrayBuffer;
}

/** The part of WebAssembly's JavaScript interface used here, whose types only come with a browser's. */
interface WasmInterface {
	readonly Memory: new (size: { readonly initial: number; readonly maximum: number; readonly shared: true }) => KernelMemory;
	readonly Module: new (bytes: Uint8Array) => object;
	readonly Instance: new (module: object, imports: object) => { readonly exports: { readonly run: (...args: number[]) => void } };
}

const wasm = (globalThis as unknown as { readonly WebAssembly: WasmInterface }).WebAssembly;

const pageBytes = 65536;
/** Addresses have 32 bits. */
const mostPages = 65536;

/** Pages that hold `bytes`, or undefined when they would pass what a memory can have. */
export function pagesFor(bytes: number): number | undefined {
	const pages = Math.ceil(bytes / pageBytes);
	return pages <= mostPages ? pages : undefined;
}

/** A memory of zeros. Throws a RangeError when the system has no room. */
export function createMemory(pages: number): KernelMemory {
	return new wasm.Memory({ initial: pages, maximum: pages, shared: true });
}

/** The function of a module, on this memory. */
export function instantiate(bytes: Uint8Array, memory: KernelMemory): (...args: number[]) => void {
	return new wasm.Instance(new wasm.Module(bytes), { host: { memory } }).exports.run;
}
