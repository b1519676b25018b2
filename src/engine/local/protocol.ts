/** @file Messages between the engine and its device threads. */
import type { PackedError } from '../../core/packed-error.ts';
import type { TypeShape } from '../../core/tensor.ts';
import type { DeviceProgram, Program } from '../../program/types.ts';
import type { BankMemory } from './banks.ts';
import type { Environment } from './native.ts';
import type { Channel, Control, Meeting } from './shared.ts';
import type { UpdateParts } from './update.ts';

/** A graph as a device gets it. */
export interface GraphModel {
	readonly model: Uint8Array;
	readonly inputs: readonly string[];
	readonly outputs: readonly string[];
	readonly outputTypes: readonly TypeShape[];
}

/** An optimiser as a device gets it: its graphs, and where that can be made a module that computes `each`. */
export interface UpdateModels extends UpdateParts<GraphModel> {
	readonly kernel: Uint8Array | undefined;
}

/** What a device thread is started with. */
export interface DeviceSetup {
	readonly environment: Environment;
	readonly device: DeviceProgram;
	readonly groups: Program['groups'];
	readonly graphs: ReadonlyMap<string, GraphModel>;
	readonly update: UpdateModels | undefined;
	readonly banks: ReadonlyMap<string, BankMemory>;
	readonly channels: ReadonlyMap<string, Channel>;
	readonly meetings: ReadonlyMap<string, Meeting>;
	readonly control: Control;
	readonly threads: number;
}

/** A host tensor in shared memory. */
export interface SharedTensor extends TypeShape {
	readonly buffer: SharedArrayBuffer;
}

export type ToDevice =
	| {
			readonly kind: 'run';
			readonly section: 'prologue' | 'iteration' | 'epilogue';
			/** The section of iterations with a sweep ahead. */
			readonly swept: boolean;
			readonly feeds: Readonly<Record<string, SharedTensor>>;
			readonly trace: boolean;
	  }
	| { readonly kind: 'close' };

/** A fetched slot. `data` is the raw bytes. */
export interface Fetched extends TypeShape {
	readonly name: string;
	readonly from: number;
	readonly data: ArrayBuffer;
}

export type FromDevice =
	| { readonly kind: 'ready' }
	/**
	 * `spans`: start and end per instruction in ms since `timeOrigin` of the process, `held`: bytes of all slots after each; both empty unless traced.
	 * `values`: native values alive.
	 */
	| {
			readonly kind: 'done';
			readonly fetched: readonly Fetched[];
			readonly spans: Float64Array;
			readonly held: Float64Array;
			readonly values: number;
	  }
	/** `secondary`: it stopped because another device failed. */
	| { readonly kind: 'failed'; readonly error: PackedError; readonly secondary: boolean };
