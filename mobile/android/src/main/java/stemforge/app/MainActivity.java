package stemforge.app;

import android.Manifest;
import android.app.Activity;
import android.content.BroadcastReceiver;
import android.content.Context;
import android.content.Intent;
import android.content.IntentFilter;
import android.content.pm.PackageManager;
import android.database.Cursor;
import android.media.AudioAttributes;
import android.media.AudioFocusRequest;
import android.media.AudioManager;
import android.net.Uri;
import android.os.Build;
import android.os.Bundle;
import android.provider.OpenableColumns;
import android.text.format.DateUtils;
import android.util.Log;
import android.view.View;
import android.widget.Button;
import android.widget.LinearLayout;
import android.widget.ProgressBar;
import android.widget.RadioButton;
import android.widget.RadioGroup;
import android.widget.SeekBar;
import android.widget.TextView;
import android.widget.ToggleButton;
import java.util.List;

/** The only screen: choose a song, watch it being separated, play its stems. */
public final class MainActivity extends Activity implements StemPlayer.Listener {
  private static final int PICK = 1;
  private static final int PERMIT = 2;

  private final Runnable changed = this::show;
  private List<Model> models;
  private StemPlayer player;
  private Progress played; // what the player was made from
  private boolean placing; // a finger is on the seek bar
  private AudioFocusRequest focus;
  private final BroadcastReceiver unplugged =
      new BroadcastReceiver() {
        @Override
        public void onReceive(Context context, Intent intent) {
          pause();
        }
      };

  @Override
  protected void onCreate(Bundle state) {
    super.onCreate(state);
    setContentView(R.layout.main);
    models = Assets.models(this);
    RadioGroup choice = findViewById(R.id.models);
    for (int n = 0; n < models.size(); n++) {
      RadioButton button = new RadioButton(this);
      button.setId(n + 1); // identifiers below those of resources
      Model model = models.get(n);
      button.setText(getString(R.string.model, model.name, String.join(", ", model.stems)));
      button.setMinHeight((int) (48 * getResources().getDisplayMetrics().density));
      choice.addView(button);
    }
    choice.check(1);
    int offered = models.size() > 1 ? View.VISIBLE : View.GONE;
    choice.setVisibility(offered);
    findViewById(R.id.split).setVisibility(offered);
    findViewById(R.id.choose).setOnClickListener(view -> choose());
    findViewById(R.id.cancel).setOnClickListener(view -> SeparationService.cancel(this));
    findViewById(R.id.play).setOnClickListener(view -> playOrPause());
    ((SeekBar) findViewById(R.id.place)).setOnSeekBarChangeListener(new Placing());
    AudioAttributes music =
        new AudioAttributes.Builder().setUsage(AudioAttributes.USAGE_MEDIA).build();
    focus =
        new AudioFocusRequest.Builder(AudioManager.AUDIOFOCUS_GAIN)
            .setAudioAttributes(music)
            .setOnAudioFocusChangeListener(
                change -> {
                  if (change < 0) {
                    pause(); // a call, or another player
                  }
                })
            .build();
  }

  @Override
  protected void onStart() {
    super.onStart();
    registerReceiver(unplugged, new IntentFilter(AudioManager.ACTION_AUDIO_BECOMING_NOISY));
    SeparationService.observe(changed);
    show();
  }

  @Override
  protected void onStop() {
    super.onStop();
    SeparationService.forget(changed);
    unregisterReceiver(unplugged);
    pause();
  }

  // Choosing a song.

  private void choose() {
    String permission = missingPermission();
    if (permission == null) {
      pick();
    } else {
      requestPermissions(new String[] {permission}, PERMIT);
    }
  }

  /** What to ask for: to notify on Android 13 and later, to write to Music before Android 10. */
  private String missingPermission() {
    String permission = null;
    if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.TIRAMISU) {
      permission = Manifest.permission.POST_NOTIFICATIONS;
    } else if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) {
      permission = Manifest.permission.WRITE_EXTERNAL_STORAGE;
    }
    boolean has =
        permission == null || checkSelfPermission(permission) == PackageManager.PERMISSION_GRANTED;
    return has ? null : permission;
  }

  @Override
  public void onRequestPermissionsResult(int request, String[] permissions, int[] results) {
    boolean granted = results.length > 0 && results[0] == PackageManager.PERMISSION_GRANTED;
    if (granted || Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) {
      pick(); // notifications are not needed
    } else {
      say(getString(R.string.no_permission));
    }
  }

  private void pick() {
    Intent intent = new Intent(Intent.ACTION_OPEN_DOCUMENT);
    intent.addCategory(Intent.CATEGORY_OPENABLE).setType("audio/*");
    String[] kinds = {"audio/*", "application/ogg"}; // what older phones call Ogg
    intent.putExtra(Intent.EXTRA_MIME_TYPES, kinds);
    startActivityForResult(intent, PICK);
  }

  @Override
  protected void onActivityResult(int request, int result, Intent data) {
    if (request != PICK || result != RESULT_OK || data == null || data.getData() == null) {
      return;
    }
    RadioGroup choice = findViewById(R.id.models);
    Model model = models.get(choice.getCheckedRadioButtonId() - 1);
    boolean m4a = ((RadioButton) findViewById(R.id.m4a)).isChecked();
    Uri uri = data.getData();
    SeparationService.start(
        this, uri, nameOf(uri), model, m4a ? StemFormat.M4A : StemFormat.WAV);
  }

  /** The file's name without its ending. */
  private String nameOf(Uri uri) {
    String name = null;
    String[] columns = {OpenableColumns.DISPLAY_NAME};
    try (Cursor found = getContentResolver().query(uri, columns, null, null, null)) {
      if (found != null && found.moveToFirst()) {
        name = found.getString(0);
      }
    } catch (RuntimeException error) {
      Log.w("stemforge", uri.toString(), error); // another app's provider: the song has no name
    }
    if (name == null || name.isEmpty()) {
      return getString(R.string.song);
    }
    int dot = name.lastIndexOf('.');
    return dot > 0 ? name.substring(0, dot) : name;
  }

  // What is going on.

  private void show() {
    Progress now = SeparationService.progress(this);
    boolean running = now.state == Progress.State.RUNNING;
    for (int id : new int[] {R.id.choose, R.id.wav, R.id.m4a}) {
      findViewById(id).setEnabled(!running);
    }
    RadioGroup choice = findViewById(R.id.models);
    for (int n = 0; n < choice.getChildCount(); n++) {
      choice.getChildAt(n).setEnabled(!running);
    }
    ProgressBar bar = findViewById(R.id.progress);
    bar.setVisibility(running ? View.VISIBLE : View.GONE);
    bar.setIndeterminate(now.percent < 0);
    bar.setProgress(Math.max(0, now.percent));
    findViewById(R.id.cancel).setVisibility(running ? View.VISIBLE : View.GONE);
    findViewById(R.id.cancel).setEnabled(now.message.isEmpty());
    if (running && now.message.isEmpty()) {
      say(getString(R.string.separating, now.song));
    } else {
      say(now.state == Progress.State.DONE ? getString(R.string.done, now.song) : now.message);
    }
    showPlayer(now);
  }

  private void say(String text) {
    TextView status = findViewById(R.id.status);
    if (!text.contentEquals(status.getText())) { // or it would be read aloud at each percent
      status.setText(text);
    }
    status.setVisibility(text.isEmpty() ? View.GONE : View.VISIBLE);
  }

  // Playing.

  private void showPlayer(Progress now) {
    boolean done = now.state == Progress.State.DONE;
    findViewById(R.id.player).setVisibility(done ? View.VISIBLE : View.GONE);
    if (now != played) {
      pause();
      played = now;
      player = done ? new StemPlayer(this, now, this) : null;
    } else {
      return;
    }
    if (done) {
      LinearLayout rows = findViewById(R.id.stems);
      rows.removeAllViews();
      for (int stem = 0; stem < now.stems.size(); stem++) {
        rows.addView(row(now.stems.get(stem).name, stem));
      }
      showTime(0.0);
    }
  }

  /** The player of the stems that are shown; null where there are none. */
  StemPlayer player() {
    return player;
  }

  private View row(String name, int stem) {
    View row = getLayoutInflater().inflate(R.layout.stem, null);
    ((TextView) row.findViewById(R.id.name)).setText(name);
    ToggleButton solo = row.findViewById(R.id.solo);
    solo.setContentDescription(getString(R.string.solo_stem, name));
    solo.setOnCheckedChangeListener((button, on) -> player.mixer().setSolo(stem, on));
    ToggleButton mute = row.findViewById(R.id.mute);
    mute.setContentDescription(getString(R.string.mute_stem, name));
    mute.setOnCheckedChangeListener((button, on) -> player.mixer().setMute(stem, on));
    return row;
  }

  private void playOrPause() {
    if (player.playing()) {
      pause();
      return;
    }
    AudioManager audio = getSystemService(AudioManager.class);
    if (audio.requestAudioFocus(focus) != AudioManager.AUDIOFOCUS_REQUEST_GRANTED) {
      say(getString(R.string.no_sound)); // a call
      return;
    }
    player.play();
    showPlayButton();
  }

  private void pause() {
    if (player != null && player.playing()) {
      player.pause();
      getSystemService(AudioManager.class).abandonAudioFocusRequest(focus);
      showPlayButton();
    }
  }

  private void showPlayButton() {
    Button play = findViewById(R.id.play);
    play.setText(player.playing() ? R.string.pause : R.string.play);
  }

  private void showTime(double seconds) {
    SeekBar place = findViewById(R.id.place);
    place.setMax((int) (1000.0 * player.durationS()));
    place.setProgress((int) (1000.0 * seconds));
    TextView time = findViewById(R.id.time);
    time.setText(getString(R.string.time, clock(seconds), clock(player.durationS())));
  }

  private static String clock(double seconds) {
    return DateUtils.formatElapsedTime((long) seconds);
  }

  @Override
  public void moved(double seconds) {
    if (player != null && !placing) {
      showTime(seconds);
    }
  }

  @Override
  public void stopped() {
    if (player != null) {
      getSystemService(AudioManager.class).abandonAudioFocusRequest(focus);
      showTime(0.0);
      showPlayButton();
    }
  }

  @Override
  public void failed(String message) {
    stopped();
    say(message);
  }

  /** The seek bar: a finger seeks where it is lifted, keys and screen readers at each step. */
  private final class Placing implements SeekBar.OnSeekBarChangeListener {
    @Override
    public void onProgressChanged(SeekBar bar, int ms, boolean byPerson) {
      if (byPerson) {
        showTime(ms / 1000.0);
        if (!placing) {
          player.seek(ms / 1000.0);
        }
      }
    }

    @Override
    public void onStartTrackingTouch(SeekBar bar) {
      placing = true;
    }

    @Override
    public void onStopTrackingTouch(SeekBar bar) {
      placing = false;
      if (player != null) {
        player.seek(bar.getProgress() / 1000.0);
      }
    }
  }
}
