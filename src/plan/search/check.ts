/** @file What a job must be before a search begins. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { deviceCountOf } from '../cluster/links.ts';
import type { Job } from './job.ts';
import type { SearchOptions } from './types.ts';

/**
 * Throws an input error naming the field or layer: a batch that is no whole number, counts that are none, micro-batches or pipelines that do not divide the
 * batch, more stages than layers or devices, a layer larger than a device, self-conditioning beside a second backbone.
 */
export function checkJob({ profile, cluster, batch }: Job, options: SearchOptions): void {
	const fail = (what: string, place: string, expected: string, found: unknown, hint?: string): never => {
		throw new DiffusionPipeError('input', what, { place, expected, found: String(found), ...(hint === undefined ? {} : { hint }) });
	};
	const count = (place: string, value: number | undefined) => {
		if (value !== undefined && (!Number.isSafeInteger(value) || value < 1)) fail('not a count', place, 'a whole number from 1', value);
	};
	count('batch', batch);
	count('stages', options.stages);
	count('micro-batches', options.microBatches);
	count('pipelines', options.pipelines);
	const devices = deviceCountOf(cluster);
	const { stages, microBatches, pipelines } = options;
	if (pipelines !== undefined && devices % pipelines !== 0)
		fail('the devices cannot be divided into these pipelines', 'pipelines', `a divisor of ${devices} devices`, pipelines);
	if (pipelines !== undefined && batch % pipelines !== 0)
		fail('the batch is not divisible', 'batch', `a multiple of ${pipelines} pipelines`, batch, `a batch of ${roundUp(batch, pipelines)}`);
	if (microBatches !== undefined && batch % ((pipelines ?? 1) * microBatches) !== 0) {
		const unit = (pipelines ?? 1) * microBatches;
		fail(
			'the batch is not divisible',
			'batch',
			`a multiple of ${unit} (micro-batches x pipelines)`,
			batch,
			`a batch of ${roundUp(batch, unit)}`,
		);
	}
	profile.backbones.forEach((backbone, b) => {
		const place = `backbones[${b}] (${backbone.name})`;
		if (stages !== undefined && stages > backbone.layers.length)
			fail('there are more stages than layers', place, `at most ${backbone.layers.length} stages`, stages);
		if (backbone.selfConditioning > 0 && profile.backbones.length > 1)
			fail(
				'self-conditioning is planned for one backbone at a time',
				`${place}.selfConditioning`,
				'0 beside another backbone',
				backbone.selfConditioning,
			);
		backbone.layers.forEach((layer, l) => {
			const bytes = layer.paramBytes + layer.gradBytes + (layer.optimizerBytes ?? 2 * layer.paramBytes);
			if (bytes > cluster.memoryBytes)
				fail(
					'a layer is larger than the memory of a device',
					`${place}.layers[${l}] (${layer.name})`,
					`at most ${cluster.memoryBytes} bytes`,
					`${bytes} bytes of weights, gradients and optimiser state`,
				);
		});
	});
	profile.frozen.forEach((component, c) => {
		component.layers.forEach((layer, l) => {
			if (layer.paramBytes > cluster.memoryBytes)
				fail(
					'a layer is larger than the memory of a device',
					`frozen[${c}] (${component.name}).layers[${l}] (${layer.name})`,
					`at most ${cluster.memoryBytes} bytes`,
					`${layer.paramBytes} bytes of weights`,
				);
		});
	});
}

/** The error when every shape was refused. */
export function nothingFits({ profile, cluster, batch }: Job, options: SearchOptions): DiffusionPipeError {
	return new DiffusionPipeError('input', 'no plan fits', {
		place: `${profile.name}, batch ${batch}, ${deviceCountOf(cluster)} devices of ${cluster.memoryBytes} bytes`,
		expected: 'stages, micro-batches and pipelines that divide batch and devices, with weights, optimiser state and activations in memory',
		found: `none${Object.keys(options).length > 0 ? ` with ${JSON.stringify(options)}` : ''}`,
		hint: 'more micro-batches or stages, recomputation, a smaller batch, or fewer fixed options',
		reason: 'memory',
	});
}

function roundUp(n: number, unit: number): number {
	return Math.ceil(n / unit) * unit;
}
