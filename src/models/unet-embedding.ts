/**
 * @file The conditioning vector of a U-Net: timestep, class and size embeddings, summed and activated once for all residual blocks.
 * Legend: B batch, E width of the embedding.
 */
import { DiffusionPipeError } from '../core/errors.ts';
import type { GraphBuilder } from '../graph/builder.ts';
import type { Value } from '../graph/types.ts';
import { type ActivationName, activations } from '../nn/activation.ts';
import type { ChainInput, Layer } from '../nn/chain.ts';
import type { LayerContext } from '../nn/context.ts';
import { timestepMlp, timestepSinusoid } from '../nn/embeddings.ts';
import { embedding, linear } from '../nn/linear.ts';

/** How `class_labels` become a vector: rows of a table, or a projection of a number or a vector of `width` entries. */
export type ClassEmbedding =
	| { readonly kind: 'table'; readonly count: number }
	| { readonly kind: 'timestep' | 'identity' }
	| { readonly kind: 'projection' | 'simple_projection'; readonly width: number };

export interface EmbeddingPlan {
	/** E. */
	readonly width: number;
	/** Width of the timestep's sinusoid. */
	readonly sinusoidWidth: number;
	readonly flipSinToCos: boolean;
	readonly freqShift: number;
	/** Of the timestep MLP. */
	readonly activation: ActivationName;
	/** Applied to the sum, as every residual block would. */
	readonly outputActivation: ActivationName;
	/** Width of `timestep_cond`, a vector added to the sinusoid by `cond_proj` (guidance distillation). */
	readonly condWidth?: number | undefined;
	readonly classes?: ClassEmbedding | undefined;
	/** `text_time` of SDXL: `time_ids` [ids], each a sinusoid of `idWidth`, joined to `text_embeds` [textWidth]. */
	readonly textTime?: { readonly ids: number; readonly idWidth: number; readonly textWidth: number } | undefined;
}

/** Kind of class embedding from `class_embed_type`, `num_class_embeds` and `projection_class_embeddings_input_dim`. */
export function classEmbedding(type: string | null, count: number | null, width: number | null, place: string): ClassEmbedding | undefined {
	if (type === null) return count === null ? undefined : { kind: 'table', count };
	if (type === 'timestep' || type === 'identity') return { kind: type };
	if (width === null) {
		throw new DiffusionPipeError('config', 'option projection_class_embeddings_input_dim is missing', {
			place,
			expected: `a number, the width of class_labels, for class_embed_type ${type}`,
		});
	}
	return { kind: type as 'projection' | 'simple_projection', width };
}

/** Chain inputs that `embeddingLayer` reads. */
export function embeddingInputs(plan: EmbeddingPlan): Record<string, ChainInput> {
	const floats = (...shape: number[]): ChainInput => ({ dtype: 'float32', shape });
	const labels: Record<ClassEmbedding['kind'], () => ChainInput> = {
		table: () => ({ dtype: 'int64', shape: [] }),
		timestep: () => floats(),
		identity: () => floats(plan.width),
		projection: () => floats((plan.classes as { width: number }).width),
		simple_projection: () => floats((plan.classes as { width: number }).width),
	};
	return {
		timestep: floats(),
		...(plan.condWidth === undefined ? {} : { timestep_cond: floats(plan.condWidth) }),
		...(plan.classes ? { class_labels: labels[plan.classes.kind]() } : {}),
		...(plan.textTime ? { text_embeds: floats(plan.textTime.textWidth), time_ids: floats(plan.textTime.ids) } : {}),
	};
}

/** Writes `emb` [B,E]. */
export function embeddingLayer(plan: EmbeddingPlan): Layer {
	const { width, classes, textTime } = plan;
	return {
		name: 'time_embedding',
		path: '',
		build(ctx, live) {
			const { g } = ctx;
			let emb_BE = ctx.at('time_embedding', (c) => {
				const time = sinusoid(g, plan, live.get('timestep'), plan.sinusoidWidth);
				const x = plan.condWidth === undefined ? time : g.add(time, guidance(c, live.get('timestep_cond'), plan.sinusoidWidth));
				return timestepMlp(c, x, width, undefined, activations[plan.activation]);
			});
			if (classes) emb_BE = g.add(emb_BE, embedClass(ctx, plan, classes, live.get('class_labels')));
			if (textTime) {
				const ids = live.get('time_ids');
				const batch = ids.shape[0]!;
				const sinusoids = sinusoid(g, plan, g.reshape(ids, [batch * textTime.ids]), textTime.idWidth);
				const all = g.concat([live.get('text_embeds'), g.reshape(sinusoids, [batch, textTime.ids * textTime.idWidth])], 1);
				const added = ctx.at('add_embedding', (c) => timestepMlp(c, all, width));
				emb_BE = g.add(emb_BE, added);
			}
			live.set('emb', activations[plan.outputActivation](g, emb_BE));
		},
	};
}

function sinusoid(g: GraphBuilder, plan: EmbeddingPlan, x_B: Value, width: number): Value {
	return timestepSinusoid(g, x_B, width, { flipSinToCos: plan.flipSinToCos, downscaleFreqShift: plan.freqShift });
}

/** `cond_proj` of a guidance vector. */
function guidance(ctx: LayerContext, cond: Value, width: number): Value {
	return ctx.at('cond_proj', (c) => linear(c, cond, width, { bias: false }));
}

function embedClass(ctx: LayerContext, plan: EmbeddingPlan, classes: ClassEmbedding, labels: Value): Value {
	if (classes.kind === 'identity') return labels;
	return ctx.at('class_embedding', (c) => {
		if (classes.kind === 'table') return embedding(c, labels, classes.count, plan.width);
		if (classes.kind === 'simple_projection') return linear(c, labels, plan.width);
		if (classes.kind === 'projection') return timestepMlp(c, labels, plan.width);
		return timestepMlp(c, sinusoid(c.g, plan, labels, plan.sinusoidWidth), plan.width, undefined, activations[plan.activation]);
	});
}
