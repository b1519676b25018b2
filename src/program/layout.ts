/** @file How a stage's parameters lie in its flat bank. */
import { sizeOf } from '../core/tensor.ts';
import type { Parameter } from '../nn/context.ts';
import { type BankId, bankId } from './types.ts';

/** Elements one optimiser call works on: enough that calls cost little, few enough that what it computes between its arrays stays in a core's second-level cache. */
export const bankChunk = 65536;

/** A parameter's place in its bank. */
export interface LaidParameter extends Parameter {
	readonly offset: number;
}

export interface BankLayout {
	readonly bank: BankId;
	/** Elements, padded to whole chunks; the padding stays zero. */
	readonly size: number;
	/** Elements in front that are trained, in whole chunks: buffers lie behind, where no optimiser step reaches (weight decay would change them). */
	readonly trained: number;
	readonly parameters: readonly LaidParameter[];
}

/** Lays trained parameters and then buffers one after another, each from a multiple of 16 elements (64 bytes). */
export function layoutBank(name: string, parameters: readonly Parameter[]): BankLayout {
	const chunks = (elements: number) => Math.ceil(elements / bankChunk) * bankChunk;
	let offset = 0;
	const lay = (p: Parameter): LaidParameter => {
		const at = offset;
		offset += Math.ceil(sizeOf(p.shape) / 16) * 16;
		return { ...p, offset: at };
	};
	const weights = parameters.filter((p) => p.trained).map(lay);
	// A stage without trained weights has a chunk of none, so that its share of the gradient's norm is one like any other.
	const trained = chunks(Math.max(offset, 1));
	offset = trained;
	const buffers = parameters.filter((p) => !p.trained).map(lay);
	return { bank: bankId(name), size: chunks(offset), trained, parameters: [...weights, ...buffers] };
}

/** Lays parameters into banks `name`, `name.1`, `name.2`, ... of at most `most` elements, in their order; a larger parameter has a bank of its own. */
export function layoutBanks(name: string, parameters: readonly Parameter[], most: number): BankLayout[] {
	const groups: Parameter[][] = [[]];
	let held = 0;
	for (const p of parameters) {
		const elements = sizeOf(p.shape);
		if (held > 0 && held + elements > most) {
			groups.push([]);
			held = 0;
		}
		groups.at(-1)!.push(p);
		held += elements;
	}
	return groups.map((group, i) => layoutBank(i === 0 ? name : `${name}.${i}`, group));
}
