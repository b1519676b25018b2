/** @file WebAssembly modules in the making (core specification, "Binary Format"): one function over an imported shared memory. */

/** A byte sequence under construction. */
export type Code = readonly number[];

/** Types of values. */
export const type = { i32: 0x7f, f32: 0x7d, v128: 0x7b } as const;

/** Instructions without immediates, by their name in the specification. */
export const plain = { 'i32.add': 0x6a, 'i32.lt_u': 0x49, end: 0x0b } as const;

/** Vector instructions without immediates. */
export const vector = {
	'f32x4.splat': 19,
	'f32x4.abs': 224,
	'f32x4.neg': 225,
	'f32x4.sqrt': 227,
	'f32x4.add': 228,
	'f32x4.sub': 229,
	'f32x4.mul': 230,
	'f32x4.div': 231,
	'f32x4.min': 232,
	'f32x4.max': 233,
} as const;

/** An unsigned whole number below 2^32 in LEB128. */
export function unsigned(value: number): number[] {
	const bytes: number[] = [];
	for (let rest = value >>> 0; ; ) {
		const low = rest & 0x7f;
		rest >>>= 7;
		if (rest === 0) return [...bytes, low];
		bytes.push(low | 0x80);
	}
}

/** A signed 32-bit number in LEB128. */
export function signed(value: number): number[] {
	const bytes: number[] = [];
	for (let rest = value | 0; ; ) {
		const low = rest & 0x7f;
		rest >>= 7;
		if ((rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)) return [...bytes, low];
		bytes.push(low | 0x80);
	}
}

const list = (items: readonly Code[]): number[] => [...unsigned(items.length), ...items.flat()];
const text = (name: string): number[] => list([...new TextEncoder().encode(name)].map((b) => [b]));
const section = (id: number, content: Code): number[] => [id, ...unsigned(content.length), ...content];

export const localGet = (index: number): number[] => [0x20, ...unsigned(index)];
export const localSet = (index: number): number[] => [0x21, ...unsigned(index)];
export const localTee = (index: number): number[] => [0x22, ...unsigned(index)];
export const i32Const = (value: number): number[] => [0x41, ...signed(value)];
export const f32Const = (value: number): number[] => [0x43, ...new Uint8Array(Float32Array.of(value).buffer)];
export const simd = (name: keyof typeof vector): number[] => [0xfd, ...unsigned(vector[name])];
/** Loads and stores of 16 bytes at the address on the stack, which is a multiple of 16. */
export const load128: Code = [0xfd, 0, 4, 0];
export const store128: Code = [0xfd, 11, 4, 0];
/** Runs `body` again as long as it leaves something other than 0 on the stack. */
export const repeat = (body: Code): number[] => [0x03, 0x40, ...body, 0x0d, 0, plain.end];

/** What a function is made of. `locals` are counted after the parameters. */
export interface FunctionBody {
	readonly parameters: readonly number[];
	readonly locals: readonly { readonly count: number; readonly type: number }[];
	readonly code: Code;
}

/** A module that imports the shared memory `host.memory`, of any size, and exports the function as `run`. */
export function encodeModule({ parameters, locals, code }: FunctionBody): Uint8Array<ArrayBuffer> {
	const body = [...list(locals.map((l) => [...unsigned(l.count), l.type])), ...code, plain.end];
	const noResults = 0;
	const shared = 3;
	const [leastPages, mostPages] = [1, 65536];
	return Uint8Array.from([
		...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
		...section(1, list([[0x60, ...list(parameters.map((p) => [p])), noResults]])),
		...section(2, list([[...text('host'), ...text('memory'), 2, shared, ...unsigned(leastPages), ...unsigned(mostPages)]])),
		...section(3, list([[0]])),
		...section(7, list([[...text('run'), 0, 0]])),
		...section(10, list([[...unsigned(body.length), ...body]])),
	]);
}
