/** @file Programs: everything each device does, in order, as plain data (JSON) beside the graphs it names. */
import type { DType, Shape, TypeShape } from '../core/tensor.ts';
import type { Action } from '../plan/schedules/types.ts';

export type { Action } from '../plan/schedules/types.ts';

export type DeviceId = number & { readonly __brand: 'DeviceId' };
/** A named value on one device. The same name on two devices is two slots. */
export type SlotId = string & { readonly __brand: 'SlotId' };
/** Names a compiled graph. */
export type GraphId = string & { readonly __brand: 'GraphId' };
/** A FIFO of tensors from one device to another. */
export type ChannelId = string & { readonly __brand: 'ChannelId' };
/** A set of devices that take part in a collective together. */
export type GroupId = string & { readonly __brand: 'GroupId' };
/** The flat buffers of one stage's trained parameters on one device. */
export type BankId = string & { readonly __brand: 'BankId' };

export type Instruction =
	/** Samples [from, to) of the iteration's host tensor `source` into a new slot; a source without samples (hyperparameters) has from = to = 0: all of it. */
	| { readonly op: 'feed'; readonly slot: SlotId; readonly source: string; readonly from: number; readonly to: number }
	/** Runs a graph. An output that is a resident slot is written in place; any other output is a new slot. */
	| {
			readonly op: 'run';
			readonly graph: GraphId;
			readonly inputs: readonly SlotId[];
			readonly outputs: readonly SlotId[];
			readonly action?: Action;
			/** Of frozen work: layers [from, to) of a part on samples [from, to) of the batch. */
			readonly frozen?: FrozenRun;
			readonly label: string;
	  }
	/** Gives the slot away: it is gone here afterwards. */
	| { readonly op: 'send'; readonly peer: DeviceId; readonly channel: ChannelId; readonly slot: SlotId }
	| { readonly op: 'recv'; readonly peer: DeviceId; readonly channel: ChannelId; readonly slot: SlotId }
	/** Sums each slot over the group's devices, in device order, in place. */
	| { readonly op: 'allReduce'; readonly group: GroupId; readonly slots: readonly SlotId[] }
	/** Joins the group's slots along `axis`, in device order, into a new slot on each. */
	| { readonly op: 'allGather'; readonly group: GroupId; readonly slot: SlotId; readonly output: SlotId; readonly axis: number }
	/** One optimiser step on the bank from its gradients, which become zero. `hyper` and `normSquared` as the optimiser's file says. */
	| { readonly op: 'update'; readonly bank: BankId; readonly hyper: SlotId; readonly normSquared: SlotId }
	/** Slot to host, under `name`; the slot stays. Several fetches of one name in an iteration are joined in sample order `from`. */
	| { readonly op: 'fetch'; readonly slot: SlotId; readonly name: string; readonly from: number }
	| { readonly op: 'drop'; readonly slots: readonly SlotId[] };

/** What a run of frozen layers does. */
export interface FrozenRun {
	readonly part: string;
	readonly layers: readonly [from: number, to: number];
	readonly samples: readonly [from: number, to: number];
}

/** Where a resident slot lives: a range of a bank's flat buffer of that role, or a buffer of its own. */
export interface Resident {
	readonly slot: SlotId;
	readonly dtype: DType;
	readonly shape: Shape;
	/** Absent for constants of the run that are not trained. */
	readonly bank?: BankId;
	readonly role: 'parameter' | 'gradient' | 'frozen';
	/** Parameter name (diffusers' name), whatever the role; `*` for the bank's whole flat buffer. */
	readonly parameter: string;
	/** First element within the bank's buffer of that role. */
	readonly offset: number;
}

/** Flat float32 buffers: parameters of `size` elements; gradient and `moments` more (AdamW: 2, with EMA: 3) of the `trained` first. */
export interface Bank {
	readonly id: BankId;
	readonly size: number;
	readonly moments: number;
	/** Elements from the start that have a gradient and that `update` changes; all unless given. */
	readonly trained?: number;
}

/** What a device does once before the first iteration, once per iteration, once at the end. */
export interface Sections {
	readonly prologue: readonly Instruction[];
	readonly iteration: readonly Instruction[];
	readonly epilogue: readonly Instruction[];
}

export interface DeviceProgram extends Sections {
	readonly device: DeviceId;
	readonly banks: readonly Bank[];
	readonly residents: readonly Resident[];
	/**
	 * The same with the sweep ahead of self-conditioning, where the job has one: either prologue, then iterations of both kinds in any order, then either
	 * epilogue, the same on all devices.
	 */
	readonly swept?: Sections;
}

/** Types of a graph's inputs and outputs, and the bytes it needs beside them while it runs. */
export interface GraphSignature {
	readonly inputs: readonly TypeShape[];
	readonly outputs: readonly TypeShape[];
	readonly workspaceBytes: number;
}

/** A tensor the host gives each iteration. `perSample`: its first axis counts the samples of the global batch. */
export interface SourceType extends TypeShape {
	readonly perSample: boolean;
}

export interface Program {
	readonly version: 1;
	readonly name: string;
	readonly devices: readonly DeviceProgram[];
	readonly graphs: Readonly<Record<string, GraphSignature>>;
	readonly groups: Readonly<Record<string, readonly DeviceId[]>>;
	readonly sources: Readonly<Record<string, SourceType>>;
}

export const deviceId = (n: number): DeviceId => n as DeviceId;
export const slotId = (s: string): SlotId => s as SlotId;
export const graphId = (s: string): GraphId => s as GraphId;
export const channelId = (s: string): ChannelId => s as ChannelId;
export const groupId = (s: string): GroupId => s as GroupId;
export const bankId = (s: string): BankId => s as BankId;
