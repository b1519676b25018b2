/** @file A chain's inputs out of a fixture's `in.` tensors. */
import { readFileSync } from 'node:fs';
import { type Tensor, tensor, toNumbers } from '../../src/core/tensor.ts';
import type { Chain } from '../../src/nn/chain.ts';

/** The parsed `config.json` of a folder under test/fixtures. */
export function fixtureConfig(folder: string): Record<string, unknown> {
	return JSON.parse(readFileSync(new URL(`../fixtures/${folder}/config.json`, import.meta.url), 'utf8')) as Record<string, unknown>;
}

/** `in.<name>` for each input of `chain`, in its element type; one without a batch axis is given to every sample of `in.target`'s batch. */
export function inputsOf(chain: Chain): (io: ReadonlyMap<string, Tensor>) => Record<string, Tensor> {
	return (io) => {
		const batch = io.get('in.target')!.shape[0]!;
		return Object.fromEntries(
			Object.entries(chain.inputs).map(([name, { dtype, shape }]) => {
				const given = io.get(`in.${name}`)!;
				const values = Array.from(toNumbers(given));
				const perSample = given.shape.length > shape.length;
				const all = perSample ? values : Array.from({ length: batch }, () => values).flat();
				return [name, tensor(dtype, perSample ? given.shape : [batch, ...given.shape], all)];
			}),
		);
	};
}
