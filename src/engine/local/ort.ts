/**
 * @file ONNX Runtime through its C API: the shared library of the onnxruntime-node package, called by koffi.
 * Pointers are bigints, valid in every thread of the process; a value made in one worker may be released in another.
 */
import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import koffi from 'koffi';
import { DiffusionPipeError } from '../../core/errors.ts';

/** A native address. 0n is null. */
export type Pointer = bigint;

/** Position of each function in the OrtApi table, which only ever grows at its end. */
const position = {
	GetErrorMessage: 2,
	CreateEnv: 3,
	CreateSessionFromArray: 8,
	Run: 9,
	CreateSessionOptions: 10,
	SetSessionGraphOptimizationLevel: 23,
	SetIntraOpNumThreads: 24,
	SetInterOpNumThreads: 25,
	CreateTensorAsOrtValue: 48,
	CreateTensorWithDataAsOrtValue: 49,
	GetTensorMutableData: 51,
	GetTensorElementType: 60,
	GetDimensionsCount: 61,
	GetDimensions: 62,
	GetTensorTypeAndShape: 65,
	CreateCpuMemoryInfo: 69,
	GetAllocatorWithDefaultOptions: 78,
	AllocatorAlloc: 75,
	AllocatorFree: 76,
	ReleaseStatus: 93,
	ReleaseMemoryInfo: 94,
	ReleaseSession: 95,
	ReleaseValue: 96,
	ReleaseTensorTypeAndShapeInfo: 99,
	ReleaseSessionOptions: 100,
	AddSessionConfigEntry: 130,
	CreateAllocator: 131,
	ReleaseAllocator: 132,
	CreateAndRegisterAllocator: 144,
	CreateArenaCfg: 156,
	ReleaseArenaCfg: 157,
	UnregisterAllocator: 177,
	GetKeyValue: 297,
	ReleaseKeyValuePairs: 300,
	AllocatorGetStats: 319,
} as const;

type Name = keyof typeof position;

const prototypes: Readonly<Record<Name, string>> = {
	GetErrorMessage: 'const char *OrtGetErrorMessage(void *status)',
	CreateEnv: 'void *OrtCreateEnv(int level, const char *id, _Out_ void **env)',
	CreateSessionFromArray: 'void *OrtCreateSessionFromArray(void *env, void *model, size_t bytes, void *options, _Out_ void **session)',
	Run: 'void *OrtRun(void *session, void *options, void *inputNames, void *inputs, size_t inputCount, void *outputNames, size_t outputCount, void *outputs)',
	CreateSessionOptions: 'void *OrtCreateSessionOptions(_Out_ void **options)',
	SetSessionGraphOptimizationLevel: 'void *OrtSetSessionGraphOptimizationLevel(void *options, int level)',
	SetIntraOpNumThreads: 'void *OrtSetIntraOpNumThreads(void *options, int threads)',
	SetInterOpNumThreads: 'void *OrtSetInterOpNumThreads(void *options, int threads)',
	CreateTensorAsOrtValue: 'void *OrtCreateTensor(void *allocator, void *shape, size_t rank, int type, _Out_ void **value)',
	CreateTensorWithDataAsOrtValue:
		'void *OrtCreateTensorWithData(void *memory, void *data, size_t bytes, void *shape, size_t rank, int type, _Out_ void **value)',
	GetTensorMutableData: 'void *OrtGetTensorMutableData(void *value, _Out_ void **data)',
	GetTensorElementType: 'void *OrtGetTensorElementType(void *info, _Out_ int *type)',
	GetDimensionsCount: 'void *OrtGetDimensionsCount(void *info, _Out_ size_t *count)',
	GetDimensions: 'void *OrtGetDimensions(void *info, void *dims, size_t count)',
	GetTensorTypeAndShape: 'void *OrtGetTensorTypeAndShape(void *value, _Out_ void **info)',
	GetAllocatorWithDefaultOptions: 'void *OrtGetAllocatorWithDefaultOptions(_Out_ void **allocator)',
	CreateCpuMemoryInfo: 'void *OrtCreateCpuMemoryInfo(int allocator, int memory, _Out_ void **info)',
	AllocatorAlloc: 'void *OrtAllocatorAlloc(void *allocator, size_t bytes, _Out_ void **data)',
	AllocatorFree: 'void *OrtAllocatorFree(void *allocator, void *data)',
	ReleaseStatus: 'void OrtReleaseStatus(void *status)',
	ReleaseMemoryInfo: 'void OrtReleaseMemoryInfo(void *info)',
	ReleaseSession: 'void OrtReleaseSession(void *session)',
	ReleaseValue: 'void OrtReleaseValue(void *value)',
	ReleaseTensorTypeAndShapeInfo: 'void OrtReleaseTensorTypeAndShapeInfo(void *info)',
	ReleaseSessionOptions: 'void OrtReleaseSessionOptions(void *options)',
	AddSessionConfigEntry: 'void *OrtAddSessionConfigEntry(void *options, const char *key, const char *value)',
	CreateAllocator: 'void *OrtCreateAllocator(void *session, void *memory, _Out_ void **allocator)',
	ReleaseAllocator: 'void OrtReleaseAllocator(void *allocator)',
	CreateAndRegisterAllocator: 'void *OrtCreateAndRegisterAllocator(void *env, void *memory, void *arena)',
	CreateArenaCfg: 'void *OrtCreateArenaCfg(size_t maxBytes, int strategy, int chunkBytes, int deadBytes, _Out_ void **config)',
	ReleaseArenaCfg: 'void OrtReleaseArenaCfg(void *config)',
	UnregisterAllocator: 'void *OrtUnregisterAllocator(void *env, void *memory)',
	GetKeyValue: 'const char *OrtGetKeyValue(void *pairs, const char *key)',
	ReleaseKeyValuePairs: 'void OrtReleaseKeyValuePairs(void *pairs)',
	AllocatorGetStats: 'void *OrtAllocatorGetStats(void *allocator, _Out_ void **pairs)',
};

/** Functions that came later than `apiVersion`, with the release that brought them. */
const later: Partial<Record<Name, number>> = { GetKeyValue: 22, ReleaseKeyValuePairs: 22, AllocatorGetStats: 23 };

type NativeFunction = (...args: unknown[]) => unknown;

/** The functions of the library, bound once per thread. */
export interface OrtLibrary {
	readonly path: string;
	readonly version: string;
	/** Held for as long as the functions are: the garbage collector closes a library whose handle is gone. */
	readonly handle: unknown;
	/** Calls a function that returns a status; throws an engine error with ONNX Runtime's message when it is not null. */
	check(name: Name, what: string, ...args: unknown[]): void;
	/** Calls a function that returns nothing. */
	release(name: Name, pointer: Pointer): void;
	/** A number among key-value pairs; undefined when the key is not there. */
	numberOf(pairs: Pointer, key: string): number | undefined;
	/** Whether this release has the function. */
	has(name: Name): boolean;
}

/** API version asked for: old enough for every release that has the functions above. */
const apiVersion = 17;

let library: OrtLibrary | undefined;

/** Path of the shared library: `DIFFUSIONPIPE_ORT`, or the one inside onnxruntime-node. */
export function ortLibraryPath(): string {
	const named = process.env.DIFFUSIONPIPE_ORT;
	if (named) {
		if (!existsSync(named)) {
			throw new DiffusionPipeError('engine', 'no such file', {
				place: `DIFFUSIONPIPE_ORT=${named}`,
				expected: 'path of an ONNX Runtime shared library',
			});
		}
		return named;
	}
	const require = createRequire(import.meta.url);
	const root = dirname(require.resolve('onnxruntime-node/package.json'));
	const folder = join(root, 'bin', 'napi-v6', process.platform, process.arch);
	const files = existsSync(folder) ? readdirSync(folder) : [];
	const file = files.find((f) => /^(lib)?onnxruntime(\.so(\.\d+)*|(\.[\d.]+)?\.dylib|\.dll)$/.test(f));
	if (!file) {
		throw new DiffusionPipeError('engine', 'onnxruntime-node ships no library for this machine', {
			place: folder,
			expected: 'libonnxruntime',
			found: files.join(', ') || 'nothing',
			hint: 'set DIFFUSIONPIPE_ORT to the path of an ONNX Runtime shared library',
		});
	}
	return join(folder, file);
}

/** Loads the library (once per thread). Throws an engine error naming the path when it cannot be loaded. */
export function openOrt(): OrtLibrary {
	if (library) return library;
	const path = ortLibraryPath();
	let base: Pointer;
	let handle: ReturnType<typeof koffi.load>;
	try {
		handle = koffi.load(path);
		base = handle.func('void *OrtGetApiBase()')() as Pointer;
	} catch (cause) {
		throw new DiffusionPipeError('engine', 'the ONNX Runtime library cannot be loaded', { place: path, found: String(cause), cause });
	}
	const [getApi, getVersion] = koffi.decode(base, koffi.array('void *', 2)) as Pointer[];
	const api = koffi.call(getApi, koffi.proto('void *OrtGetApi(uint32_t version)'), apiVersion) as Pointer;
	const version = koffi.call(getVersion, koffi.proto('const char *OrtGetVersionString()')) as string;
	if (!api)
		throw new DiffusionPipeError('engine', `ONNX Runtime ${version} is too old`, { place: path, expected: `API ${apiVersion} or newer` });
	const functions = new Map<Name, NativeFunction>();
	const minor = Number(version.split('.')[1]);
	for (const [name, index] of Object.entries(position) as [Name, number][]) {
		if (minor < (later[name] ?? 0)) continue;
		const address = koffi.decode(api, index * 8, 'void *') as Pointer;
		functions.set(name, koffi.decode(address, koffi.proto(prototypes[name])) as NativeFunction);
	}
	const call = (name: Name, ...args: unknown[]) => functions.get(name)!(...args);
	library = {
		path,
		version,
		handle,
		check(name, what, ...args) {
			const status = call(name, ...args) as Pointer | null;
			if (!status) return;
			const message = String(call('GetErrorMessage', status));
			call('ReleaseStatus', status);
			throw new DiffusionPipeError('engine', message, { place: what });
		},
		release: (name, pointer) => void call(name, pointer),
		numberOf(pairs, key) {
			const text = call('GetKeyValue', pairs, key) as string | null;
			return text === null ? undefined : Number(text);
		},
		has: (name) => functions.has(name),
	};
	return library;
}
