/** @file The error that building a wrong graph gives. */
import { DiffusionPipeError } from '../../src/core/errors.ts';
import { createBuilder } from '../../src/graph/builder.ts';
import type { BuildFunction, InputSpec } from './gradcheck.ts';

/** Message of the graph error that `build` throws on inputs of these types (float32 unless said); throws when there is none or another. */
export function graphError(build: BuildFunction, specs: readonly Pick<InputSpec, 'shape' | 'dtype'>[]): string {
	const g = createBuilder('wrong');
	const values = specs.map(({ shape, dtype = 'float32' }, i) => g.input(`x${i}`, dtype, shape));
	try {
		build(g, ...values);
	} catch (error) {
		if (error instanceof DiffusionPipeError && error.kind === 'graph') return error.message;
		throw error;
	}
	throw new Error('the graph was built without an error');
}
