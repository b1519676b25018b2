/** @file The ControlNet a config trains: a copy of a U-Net's encoder, or one that there is already, in front of that U-Net, whose weights stay as they are. */
import { join } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { resolveModel } from '../../io/hub.ts';
import { type ModelFolder, readModelFolder } from '../../io/model-folder.ts';
import { checkControlFit, controlImageInput, isControlResidual } from '../../models/control-fit.ts';
import { controlNetChain, readControlNetConfig } from '../../models/controlnet.ts';
import type { Denoiser } from '../../models/index.ts';
import { joinWhole, locked } from '../../models/locked-unet.ts';
import { readUNetConditionConfig, unetConditionChain } from '../../models/unet-condition.ts';
import { conditionEncoderOptions } from '../../models/unet-encoder.ts';
import { traceChain } from '../../nn/chain.ts';
import type { TrainConfig } from '../config.ts';
import type { TrainedModel } from '../model.ts';
import { partFolder } from '../part-folder.ts';
import type { LockedUNet } from './types.ts';

/** The `type` of a `[model]` that is a ControlNet. */
export const controlNetClass = 'ControlNetModel';
const unetClass = 'UNet2DConditionModel';

/** What a ControlNet has and its U-Net does not: the way in of the conditioning picture, and the convolutions that begin at zero. */
const isOwn = (name: string): boolean => name.startsWith('controlnet_');

/** Keys of a U-Net's config that its ControlNet takes over, as diffusers' `ControlNetModel.from_unet` does. */
const takenOver = [...Object.keys(conditionEncoderOptions), 'encoder_hid_dim', 'encoder_hid_dim_type'];

/**
 * Opens a `[model]` of type ControlNetModel. `model.pretrained` names the U-Net: its folder, a pipeline, a run, or `owner/name` of the hub. Config and first
 * values are those of its encoder, and the convolutions to the residuals zero, so that training begins where the U-Net stands; or they are those of
 * `model.controlnet`, a ControlNet's folder, a pipeline or a run with one, or `owner/name`. Other keys of `[model]` come before both.
 * @throws DiffusionPipeError of kind 'config' when the U-Net is not given or of another class, or LoRA or self-conditioning is asked for; 'input' when a
 * folder cannot be read
 */
export async function openTrainedControlNet({
	model,
	lora,
	objective,
}: Pick<TrainConfig, 'model' | 'lora' | 'objective'>): Promise<TrainedModel> {
	const { type: className, pretrained, controlnet, ...given } = model;
	refuse(lora.rank > 0, 'lora.rank', 'a ControlNet is trained whole', '0', String(lora.rank));
	refuse(objective.self_conditioning > 0, 'objective.self_conditioning', 'a ControlNet is not self-conditioned', '0', 'more');
	const wanted = 'the folder of a pipeline or U-Net, a run, or owner/name of a model on the hub';
	refuse(typeof pretrained !== 'string' || pretrained === '', 'model.pretrained', 'there is no U-Net to control', wanted, pretrained);
	const named = controlnet === undefined || (typeof controlnet === 'string' && controlnet !== '');
	refuse(!named, 'model.controlnet', 'has a wrong value', 'the folder of a ControlNet, a run, or owner/name', controlnet);
	const folder = await partFolder(await resolveModel(pretrained as string), ['unet']);
	const unet = await openOf(folder, unetClass, 'model.pretrained');
	let own: ModelFolder | undefined;
	const ownFolder = controlnet === undefined ? folder : await ownOf(controlnet as string, unet);
	try {
		if (controlnet !== undefined) own = await openOf(ownFolder, controlNetClass, 'model.controlnet');
		const unetConfig = readUNetConditionConfig(unet.config, join(folder, 'config.json'));
		const copied = Object.fromEntries(takenOver.map((key) => [key, (unetConfig as unknown as Record<string, unknown>)[key]]));
		const config = readControlNetConfig({ ...(own ? (own.config as object) : copied), ...given }, 'model');
		const lockedUNet: LockedUNet = {
			folder,
			className: unetClass,
			config: { _class_name: unetClass, ...unetConfig },
			weights: unet.weights,
			weightsFile: unet.weightsFile,
		};
		return {
			className,
			base: own ? { folder: ownFolder, weights: own.weights } : { folder, weights: unet.weights, holds: (name) => !isOwn(name) },
			locked: lockedUNet,
			build({ height, width, tokens } = {}) {
				const [rows, columns] = sizeOf(unetConfig.sample_size);
				const size = {
					...((height ?? rows) === undefined ? {} : { height: (height ?? rows)! }),
					...((width ?? columns) === undefined ? {} : { width: (width ?? columns)! }),
					...(tokens === undefined ? {} : { tokens }),
				};
				const main = unetConditionChain(unetConfig, { ...size, residuals: config.global_pool_conditions ? 'pooled' : 'maps' });
				const control = controlNetChain(config, size);
				checkControlFit(main, control, controlnet === undefined ? 'model' : 'model.controlnet');
				checkInputs(Object.keys({ ...main.inputs, ...control.inputs }));
				checkWeights(main, lockedUNet);
				const chain = joinWhole(control, main);
				const denoiser: Denoiser = {
					config: { _class_name: className, ...config },
					chain,
					sample: 'sample',
					output: `${locked}sample`,
					labels: undefined,
					conditioning: Object.fromEntries(Object.entries(chain.inputs).filter(([name]) => name !== 'sample' && name !== 'timestep')),
					fixed: {},
					timestepScale: 1,
				};
				return { denoiser, lora: undefined, control: { control, unet: main } };
			},
			close: async () => {
				await unet.weights.close();
				await own?.weights.close();
			},
		};
	} catch (error) {
		await unet.weights.close();
		await own?.weights.close();
		throw error;
	}
}

/** `sample_size` as rows and columns. */
function sizeOf(configured: number | readonly number[] | null): readonly (number | undefined)[] {
	return typeof configured === 'number' ? [configured, configured] : (configured ?? []);
}

/** The folder of the ControlNet that `controlnet` names; on failure the U-Net is closed. */
async function ownOf(controlnet: string, unet: ModelFolder): Promise<string> {
	try {
		return await partFolder(await resolveModel(controlnet), ['controlnet']);
	} catch (error) {
		await unet.weights.close();
		throw error;
	}
}

/** Opens a model folder that must hold a `className`. */
async function openOf(folder: string, className: string, place: string): Promise<ModelFolder> {
	const opened = await readModelFolder(folder);
	const { _class_name: found } = opened.config as { readonly _class_name?: unknown };
	if (found === undefined || found === className) return opened;
	await opened.weights.close();
	throw new DiffusionPipeError('config', 'is of another class', { place, expected: className, found: `${String(found)} in ${folder}` });
}

/** What training feeds a ControlNet and its U-Net. Models that take more (SDXL's pooled text and sizes, class labels) are refused. */
function checkInputs(names: readonly string[]): void {
	const fed = ['sample', 'timestep', 'encoder_hidden_states', controlImageInput];
	const other = names.find((name) => !fed.includes(name) && !isControlResidual(name));
	refuse(other !== undefined, 'model.pretrained', 'the U-Net takes an input that ControlNet training does not give', fed.join(', '), other);
}

/** The U-Net's weights must be there, and as large as its config says. */
function checkWeights(unet: Parameters<typeof traceChain>[0], { weights, folder }: LockedUNet): void {
	for (const { name, shape } of traceChain(unet, 1).parameters.values()) {
		const found = weights.has(name) ? `[${weights.info(name).shape.join(', ')}]` : 'no tensor of that name';
		if (found === `[${shape.join(', ')}]`) continue;
		throw new DiffusionPipeError('input', 'the weights of the U-Net do not fit its config', {
			place: `${folder}: ${name}`,
			expected: `[${shape.join(', ')}]`,
			found,
		});
	}
}

function refuse(wrong: boolean, place: string, what: string, expected: string, found: unknown): void {
	if (!wrong) return;
	throw new DiffusionPipeError('config', what, {
		place,
		expected,
		found: typeof found === 'string' ? found : (JSON.stringify(found) ?? 'nothing'),
	});
}
