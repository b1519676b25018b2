/** @file Writes safetensors files without holding them in memory, and reads single tensors of them on demand. */
import { readSync as fsReadSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { DiffusionPipeError } from '../core/errors.ts';
import { byteSize, type DType, describe, makeArray, type Shape, sizeOf, type Tensor, type TensorArray } from '../core/tensor.ts';
import { writeFileAtomic } from './atomic.ts';
import { fileError } from './file-error.ts';
import { formatHeader, type Header, malformed, maxHeaderBytes, parseHeader, type TensorInfo } from './safetensors-header.ts';

export type { TensorInfo } from './safetensors-header.ts';

/** A tensor to write. `data` may be a function, called when its turn comes, so that only one tensor at a time is in memory. */
export interface NamedTensor {
	readonly name: string;
	readonly dtype: DType;
	readonly shape: Shape;
	readonly data: TensorArray | (() => TensorArray | Promise<TensorArray>);
}

/** Tensors by name, read when asked for: one file or several shards. */
export interface TensorReader {
	/** Names in the order of the file. */
	readonly names: readonly string[];
	/** The strings stored with the tensors (`__metadata__`). */
	readonly metadata: Readonly<Record<string, string>>;
	has(name: string): boolean;
	/** Type, shape and size of a tensor. Throws when there is none of that name. */
	info(name: string): TensorInfo;
	/** Reads one tensor into fresh, aligned memory. Throws when its element type is one we do not hold. */
	read(name: string): Promise<Tensor>;
	/** Like `read`, blocking. */
	readSync(name: string): Tensor;
	close(): Promise<void>;
}

/** Node reads and writes at most 2^31 - 1 bytes in one call. */
const maxTransfer = 2 ** 30;

/**
 * Writes `tensors` to the file `path`, whole or not at all, in the order given.
 * @param metadata strings to store; `{ format: 'pt' }` is what diffusers expects of a model
 * @throws DiffusionPipeError when a name repeats, data does not fit its shape, or the file cannot be written
 */
export async function writeSafetensors(
	path: string,
	tensors: Iterable<NamedTensor>,
	metadata?: Readonly<Record<string, string>>,
): Promise<void> {
	const list = [...tensors];
	const header = formatHeader(
		list.map(({ name, dtype, shape }) => ({ name, dtype, shape, bytes: byteSize({ dtype, shape }) })),
		metadata,
	);
	const names = new Set<string>();
	for (const { name } of list) {
		if (names.has(name) || name === '__metadata__') {
			throw new DiffusionPipeError('internal', 'a tensor name cannot be used', {
				place: path,
				expected: 'names that differ, none of them "__metadata__"',
				found: JSON.stringify(name),
			});
		}
		names.add(name);
	}
	await writeFileAtomic(path, async (file) => {
		await writeAll(file, header);
		for (const tensor of list) {
			const data = typeof tensor.data === 'function' ? await tensor.data() : tensor.data;
			checkData(path, tensor, data);
			await writeAll(file, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
		}
	});
}

/**
 * Opens the safetensors file `path` and checks its header. The caller closes the reader.
 * @throws DiffusionPipeError of kind 'input' when the file is missing or malformed
 */
export async function openSafetensors(path: string): Promise<TensorReader> {
	let file: FileHandle;
	try {
		file = await open(path, 'r');
	} catch (error) {
		throw fileError(path, 'open', error);
	}
	try {
		const { header, dataStart } = await readHeader(file, path);
		return new SafetensorsFile(path, file, header, dataStart);
	} catch (error) {
		await file.close();
		throw fileError(path, 'read', error);
	}
}

/** Reads a whole safetensors file into memory. */
export async function readSafetensors(path: string): Promise<{ tensors: Map<string, Tensor>; metadata: Readonly<Record<string, string>> }> {
	const reader = await openSafetensors(path);
	try {
		const tensors = new Map<string, Tensor>();
		for (const name of reader.names) tensors.set(name, await reader.read(name));
		return { tensors, metadata: reader.metadata };
	} finally {
		await reader.close();
	}
}

class SafetensorsFile implements TensorReader {
	readonly names: readonly string[];
	readonly metadata: Readonly<Record<string, string>>;
	readonly #path: string;
	readonly #header: Header;
	readonly #dataStart: number;
	#file: FileHandle | undefined;

	constructor(path: string, file: FileHandle, header: Header, dataStart: number) {
		this.names = [...header.tensors.keys()];
		this.metadata = header.metadata;
		this.#path = path;
		this.#file = file;
		this.#header = header;
		this.#dataStart = dataStart;
	}

	has(name: string): boolean {
		return this.#header.tensors.has(name);
	}

	info(name: string): TensorInfo {
		return this.#header.tensors.get(name) ?? missingTensor(this.#path, name);
	}

	async read(name: string): Promise<Tensor> {
		const { tensor, bytes, position } = this.#prepare(name);
		const file = this.#open();
		for (let at = 0; at < bytes.length; ) {
			const length = Math.min(maxTransfer, bytes.length - at);
			const { bytesRead } = await file.read(bytes, at, length, position + at).catch((error: unknown) => this.#fail(error));
			at += this.#progress(name, bytesRead);
		}
		return tensor;
	}

	readSync(name: string): Tensor {
		const { tensor, bytes, position } = this.#prepare(name);
		const file = this.#open();
		for (let at = 0; at < bytes.length; ) {
			const length = Math.min(maxTransfer, bytes.length - at);
			try {
				at += this.#progress(name, fsReadSync(file.fd, bytes, at, length, position + at));
			} catch (error) {
				this.#fail(error);
			}
		}
		return tensor;
	}

	async close(): Promise<void> {
		const file = this.#file;
		this.#file = undefined;
		await file?.close();
	}

	#open(): FileHandle {
		if (this.#file !== undefined) return this.#file;
		throw new DiffusionPipeError('internal', 'read after the file was closed', { place: this.#path });
	}

	#prepare(name: string): { tensor: Tensor; bytes: Uint8Array; position: number } {
		const { dtype, storedType, shape, begin } = this.info(name);
		if (dtype === undefined) {
			throw new DiffusionPipeError(
				'input',
				`tensor ${JSON.stringify(name)} has the element type ${storedType}, which cannot be read here`,
				{
					place: this.#path,
					expected: 'F64 F32 F16 BF16 I64 I32 I8 U8 BOOL',
					found: storedType,
					hint: 'convert the file to one of these types',
				},
			);
		}
		const data = allocate(this.#path, name, dtype, shape);
		const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
		return { tensor: { dtype, shape, data }, bytes, position: this.#dataStart + begin };
	}

	#progress(name: string, bytesRead: number): number {
		// The header was checked against the length of the file, so a short read means that it shrank since.
		if (bytesRead === 0) malformed(this.#path, `the file was cut off while it was read, in the data of ${JSON.stringify(name)}`);
		return bytesRead;
	}

	#fail(error: unknown): never {
		throw fileError(this.#path, 'read', error);
	}
}

/** The error for a name that is not in `place`. */
export function missingTensor(place: string, name: string): never {
	throw new DiffusionPipeError('input', `no tensor named ${JSON.stringify(name)}`, { place, hint: 'list the names of the file' });
}

async function readHeader(file: FileHandle, path: string): Promise<{ header: Header; dataStart: number }> {
	const stat = await file.stat();
	if (!stat.isFile()) throw new DiffusionPipeError('input', 'is not a file', { place: path, expected: 'a .safetensors file' });
	if (stat.size < 8) malformed(path, 'the file is too short', '8 bytes or more', `${stat.size}`);
	const lengthField = new Uint8Array(8);
	await readExactly(file, lengthField, 0, path);
	const length = new DataView(lengthField.buffer).getBigUint64(0, true);
	if (length > BigInt(maxHeaderBytes)) malformed(path, 'the header is too long', `${maxHeaderBytes} bytes or less`, `${length}`);
	const dataStart = 8 + Number(length);
	if (dataStart > stat.size) {
		malformed(path, 'the file is cut off: the header ends after the file', `${dataStart} bytes or more`, `${stat.size}`);
	}
	const bytes = new Uint8Array(Number(length));
	await readExactly(file, bytes, 8, path);
	return { header: parseHeader(bytes, stat.size - dataStart, path), dataStart };
}

async function readExactly(file: FileHandle, bytes: Uint8Array, position: number, path: string): Promise<void> {
	for (let at = 0; at < bytes.length; ) {
		const { bytesRead } = await file.read(bytes, at, bytes.length - at, position + at);
		if (bytesRead === 0) malformed(path, 'the file was cut off while it was read');
		at += bytesRead;
	}
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
	for (let at = 0; at < bytes.length; ) {
		const { bytesWritten } = await file.write(bytes, at, Math.min(maxTransfer, bytes.length - at));
		at += bytesWritten;
	}
}

function checkData(path: string, tensor: NamedTensor, data: TensorArray): void {
	const wanted = makeArray(tensor.dtype, 0);
	if (data.length === sizeOf(tensor.shape) && data.constructor === wanted.constructor) return;
	throw new DiffusionPipeError('internal', `the data of tensor ${JSON.stringify(tensor.name)} does not fit its type`, {
		place: path,
		expected: `${wanted.constructor.name} of ${sizeOf(tensor.shape)} elements for ${describe(tensor)}`,
		found: `${data.constructor.name} of ${data.length}`,
	});
}

function allocate(path: string, name: string, dtype: DType, shape: Shape): TensorArray {
	try {
		return makeArray(dtype, sizeOf(shape));
	} catch (cause) {
		throw new DiffusionPipeError('input', `tensor ${JSON.stringify(name)} does not fit in memory`, {
			place: path,
			found: describe({ dtype, shape }),
			cause,
		});
	}
}
