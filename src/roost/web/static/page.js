// What every page does: keeps itself fresh, sends forms without leaving, and answers keys.

import { startForms } from "./forms.js";
import { startGlances } from "./glance.js";
import "./keys.js";
import { startLooking } from "./looking.js";
import { startLive } from "./live.js";
import { startRows } from "./rows.js";
import "./select.js";
import { startTheme } from "./switch.js";
import { startTimes } from "./times.js";
import { startViews } from "./saved.js";

startLooking();
startTheme();
startTimes();
startForms();
startGlances();
startViews();
startRows();
startLive();
