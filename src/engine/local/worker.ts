/** @file Entry of a device thread: builds its device, then runs sections as messages come. */
import { parentPort, workerData } from 'node:worker_threads';
import { DiffusionPipeError } from '../../core/errors.ts';
import { createDevice, type Device } from './device.ts';
import type { DeviceSetup, FromDevice, ToDevice } from './protocol.ts';
import { stop } from './shared.ts';

const setup = workerData as DeviceSetup;
const port = parentPort!;
const say = (message: FromDevice, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);

function fail(error: unknown): void {
	const secondary = error instanceof Error && error.name === 'Stopped';
	stop(setup.control);
	const message = error instanceof Error ? error.message : String(error);
	const place = error instanceof DiffusionPipeError ? error.parts.place : `device ${setup.device.device}`;
	const what = error instanceof DiffusionPipeError ? message.slice(place.length + 2) : message;
	say({ kind: 'failed', place, what, secondary });
}

let device: Device | undefined;
try {
	device = createDevice(setup);
	say({ kind: 'ready' });
} catch (error) {
	fail(error);
}

port.on('message', (message: ToDevice) => {
	if (message.kind === 'close') {
		device?.release();
		port.close();
		return;
	}
	if (!device) return;
	try {
		const { fetched, spans, values } = device.run(message);
		say({ kind: 'done', fetched, spans, values }, [...fetched.map((f) => f.data), spans.buffer as ArrayBuffer]);
	} catch (error) {
		fail(error);
	}
});
