/** @file Environment, native tensors and sessions of ONNX Runtime: what owns native memory and when it is given back. */
import koffi from 'koffi';
import { DiffusionPipeError } from '../../core/errors.ts';
import { byteSize, type DType, makeArray, sizeOf, type TensorArray, type TypeShape } from '../../core/tensor.ts';
import { dtypeOfOnnx, onnxElementType } from '../../graph/builder/elementwise.ts';
import { openOrt, type Pointer } from './ort.ts';

/** Handles every session and tensor of the process share. Plain numbers: they are sent to the workers. */
export interface Environment {
	readonly env: Pointer;
	readonly memory: Pointer;
}

/**
 * Creates the process's environment with one arena that all sessions share, so that memory freed by one graph is reused by
 * the next (12 chained sessions with 64 MB values: 286 MB resident against 978 with an arena each).
 */
export function createEnvironment(): Environment {
	const ort = openOrt();
	const out: (Pointer | null)[] = [null];
	const make = (name: Parameters<typeof ort.check>[0], ...args: unknown[]): Pointer => {
		ort.check(name, 'ONNX Runtime environment', ...args, out);
		return out[0]!;
	};
	// Severity 4: what goes wrong comes back as a status and is told once, not on stderr as well.
	const env = make('CreateEnv', 4, 'diffusionpipe');
	const memory = make('CreateCpuMemoryInfo', 1, 0);
	try {
		createArena({ env, memory });
	} catch (error) {
		// A process has one ONNX Runtime environment: a second engine in it finds the arena registered already.
		if (!String(error).includes('already')) throw error;
	}
	return { env, memory };
}

/** Registers an arena with the environment, for the sessions made afterwards. Throws an engine error when one is registered. */
export function createArena({ env, memory }: Environment): void {
	const ort = openOrt();
	const out: (Pointer | null)[] = [null];
	// Extend by what is asked (strategy 1): doubling would hold up to twice the peak.
	ort.check('CreateArenaCfg', 'shared arena', 0, 1, -1, -1, out);
	try {
		ort.check('CreateAndRegisterAllocator', 'shared arena', env, memory, out[0]!);
	} finally {
		ort.release('ReleaseArenaCfg', out[0]!);
	}
}

/** Address of memory that JavaScript owns. The caller keeps `array` alive for as long as the address is used. */
export function addressOf(array: ArrayBufferView): Pointer {
	return koffi.address(array) as Pointer;
}

/** A view of `bytes` bytes of native memory. */
export function viewNative<D extends DType>(address: Pointer, dtype: D, length: number): TensorArray {
	const bytes = byteSize({ dtype, shape: [length] });
	return makeArray(dtype, length, koffi.view(address, bytes));
}

let alive = 0;

/** OrtValues made in this thread less those released in it. Over all threads the sum is what is alive. */
export function valuesAlive(): number {
	return alive;
}

/** An OrtValue over memory somebody else owns and keeps alive. */
export function tensorOver({ memory }: Environment, address: Pointer, type: TypeShape): Pointer {
	const out: (Pointer | null)[] = [null];
	const shape = BigInt64Array.from(type.shape, BigInt);
	openOrt().check(
		'CreateTensorWithDataAsOrtValue',
		`tensor ${type.dtype}[${type.shape.join(',')}]`,
		memory,
		address,
		byteSize(type),
		shape,
		type.shape.length,
		onnxElementType[type.dtype],
		out,
	);
	alive++;
	return out[0]!;
}

/** An OrtValue with memory of its own, not cleared. */
export function allocateTensor(type: TypeShape): Pointer {
	const ort = openOrt();
	const place = `tensor ${type.dtype}[${type.shape.join(',')}]`;
	const allocator: (Pointer | null)[] = [null];
	ort.check('GetAllocatorWithDefaultOptions', place, allocator);
	const out: (Pointer | null)[] = [null];
	const shape = BigInt64Array.from(type.shape, BigInt);
	ort.check('CreateTensorAsOrtValue', place, allocator[0], shape, type.shape.length, onnxElementType[type.dtype], out);
	alive++;
	return out[0]!;
}

/** Address of an OrtValue's elements. */
export function dataOf(value: Pointer): Pointer {
	const out: (Pointer | null)[] = [null];
	openOrt().check('GetTensorMutableData', 'tensor data', value, out);
	return out[0]!;
}

/** Element type and shape of an OrtValue, asked of ONNX Runtime. */
export function typeOf(value: Pointer): TypeShape {
	const ort = openOrt();
	const out: (Pointer | null)[] = [null];
	const number: number[] = [0];
	ort.check('GetTensorTypeAndShape', 'tensor type', value, out);
	const info = out[0]!;
	ort.check('GetTensorElementType', 'tensor type', info, number);
	const dtype = dtypeOfOnnx(number[0]!);
	ort.check('GetDimensionsCount', 'tensor type', info, number);
	const dims = new BigInt64Array(new SharedArrayBuffer(8 * Math.max(1, number[0]!)));
	ort.check('GetDimensions', 'tensor type', info, dims, number[0]!);
	ort.release('ReleaseTensorTypeAndShapeInfo', info);
	if (!dtype) throw new DiffusionPipeError('engine', 'a tensor has an element type we do not hold', { place: 'tensor type' });
	return { dtype, shape: Array.from(dims.subarray(0, number[0]!), Number) };
}

/** Copies an OrtValue's elements to an array JavaScript owns. */
export function copyOut(value: Pointer, { dtype, shape }: TypeShape): TensorArray {
	const length = sizeOf(shape);
	const copy = makeArray(dtype, length);
	if (length > 0) (copy as Float32Array).set(viewNative(dataOf(value), dtype, length) as Float32Array);
	return copy;
}

/** Gives an OrtValue back. Memory it does not own stays. */
export function releaseValue(value: Pointer): void {
	alive--;
	openOrt().release('ReleaseValue', value);
}

export interface SessionOptions {
	/** Threads inside one operator; 1 unless a device has cores to itself. */
	readonly threads?: number;
	/** 99 all, 1 basic, 0 none. Graphs come optimised for the engine already, but ONNX Runtime's own fusions are cheap to keep. */
	readonly optimization?: 0 | 1 | 2 | 99;
}

/** A compiled graph. */
export interface Session {
	readonly name: string;
	readonly handle: Pointer;
	/**
	 * Runs it. `inputs` holds one OrtValue per graph input; `outputs` one per output, 0n where ONNX Runtime shall allocate
	 * (the address of the new value is written there and belongs to the caller).
	 */
	run(inputs: BigUint64Array, outputs: BigUint64Array): void;
	release(): void;
}

function cStrings(names: readonly string[]): { pointers: BigUint64Array; keep: Uint8Array[] } {
	// Own buffers: a short typed array may live on the JavaScript heap, where the collector moves it.
	const keep = names.map((n) => new Uint8Array(new SharedArrayBuffer(Buffer.byteLength(n) + 1)));
	const pointers = new BigUint64Array(new SharedArrayBuffer(Math.max(1, names.length) * 8));
	keep.forEach((bytes, i) => {
		bytes.set(Buffer.from(names[i]!, 'utf8'));
		pointers[i] = addressOf(bytes);
	});
	return { pointers, keep };
}

/**
 * Rewritings of ONNX Runtime that make graphs slower on a CPU: SkipLayerNormalization takes five times as long as the sum and the normalisation apart, and
 * slices copied one by one stay in cache until they are read, where one Split writes all of them to memory first; transposes that stand before a product
 * here stand there because they pay.
 */
const slowerOptimizers = ['SkipLayerNormFusion', 'GatherSliceToSplitFusion', 'GemmTransposeFusion'];

/** Compiles an ONNX model. Throws an engine error with ONNX Runtime's message when it refuses the model. */
export function createSession(
	environment: Environment,
	name: string,
	model: Uint8Array,
	signature: { readonly inputs: readonly string[]; readonly outputs: readonly string[] },
	{ threads = 1, optimization = 99 }: SessionOptions = {},
): Session {
	const ort = openOrt();
	const out: (Pointer | null)[] = [null];
	ort.check('CreateSessionOptions', name, out);
	const options = out[0]!;
	ort.check('SetSessionGraphOptimizationLevel', name, options, optimization);
	ort.check('SetIntraOpNumThreads', name, options, threads);
	ort.check('SetInterOpNumThreads', name, options, 1);
	ort.check('AddSessionConfigEntry', name, options, 'session.use_env_allocators', '1');
	// Spinning threads of one device would take the cores of another.
	ort.check('AddSessionConfigEntry', name, options, 'session.intra_op.allow_spinning', '0');
	ort.check('AddSessionConfigEntry', name, options, 'session.set_denormal_as_zero', '1');
	ort.check('AddSessionConfigEntry', name, options, 'optimization.disable_specified_optimizers', slowerOptimizers.join(';'));
	let session: Pointer;
	try {
		ort.check('CreateSessionFromArray', `graph ${name}`, environment.env, model, model.byteLength, options, out);
		session = out[0]!;
	} finally {
		ort.release('ReleaseSessionOptions', options);
	}
	const inputNames = cStrings(signature.inputs);
	const outputNames = cStrings(signature.outputs);
	let live = true;
	return {
		name,
		handle: session,
		run(inputs, outputs) {
			if (!live) throw new DiffusionPipeError('engine', 'session was released', { place: `graph ${name}` });
			let allocated = 0;
			for (const value of outputs) if (value === 0n) allocated++;
			ort.check(
				'Run',
				`graph ${name}`,
				session,
				null,
				inputNames.pointers,
				inputs,
				signature.inputs.length,
				outputNames.pointers,
				signature.outputs.length,
				outputs,
			);
			alive += allocated;
		},
		release() {
			if (!live) return;
			live = false;
			ort.release('ReleaseSession', session);
			// Named here so that the strings live as long as the session does.
			inputNames.keep.length = 0;
			outputNames.keep.length = 0;
		},
	};
}
